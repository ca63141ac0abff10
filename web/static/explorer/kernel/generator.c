/* A DCGAN generator on WebAssembly SIMD: one latent vector to one picture.
 *
 * The network is that of gan/networks.py in evaluation mode, with batch norm folded into the weights
 * (gan/export/page_weights.py): a linear layer to [side, side, widths[0]], then four 5x5 transposed convolutions of
 * stride 2, ReLU between them, tanh at the end.
 *
 * A transposed convolution of stride 2 is computed as four ordinary ones, one for each parity ("phase") of the
 * output's row and column, with 3x3, 3x2, 2x3 and 2x2 filters: no multiplication by an inserted zero. Each is
 * a matrix product of LANES output channels with POSITIONS input positions, accumulated in registers.
 * Features are stored with channels last and a border of one zero position, so no filter needs a bounds check.
 *
 * Calls, in order: generator_create; for each layer write half-precision weights to generator_staging() and
 * float biases to generator_bias(), then generator_load; after that, write z to generator_z() and call
 * generator_run as often as needed.
 */

#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#define LAYERS 4
#define FILTER 5
#define LANES 8      /* output channels of one panel of weights */
#define POSITIONS 4  /* input positions of one tile */
#define COLOURS 12   /* outputs of the last layer: 4 phases x 3 colours, computed at once from 3x3 inputs */

typedef struct {
  int inputs, outputs, side; /* side of the input */
  float *weights, *bias;
} Layer;

static int latent_size, first_side;
static int widths[LAYERS];
static Layer layers[LAYERS];
static float *projection, *projection_bias, *z, *staging_bias;
static uint16_t *staging;
static float *features[LAYERS];
static uint8_t *pixels;

extern unsigned char __heap_base;
static uintptr_t heap;

static void *allocate(size_t bytes) {
  if (!heap) heap = (uintptr_t)&__heap_base;
  heap = (heap + 63) & ~(uintptr_t)63;
  void *block = (void *)heap;
  heap += bytes;
  size_t available = __builtin_wasm_memory_size(0) << 16;
  if (heap > available && __builtin_wasm_memory_grow(0, (heap - available + 65535) >> 16) == (size_t)-1)
    __builtin_trap();
  return block; /* fresh WebAssembly memory is zero */
}

static int padded(int channels) { return (channels + LANES - 1) / LANES * LANES; }

static float from_half(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
  union { uint32_t bits; float value; } wide = {magnitude << 13};
  wide.value *= 0x1p112f; /* moves the exponent from half's bias to float's, subnormal numbers included */
  wide.bits |= sign;
  return wide.value;
}

/* Inputs that the phase with this parity reads along one axis, in the order +1, 0, (-1) of their offsets. */
static int taps(int parity) { return 3 - parity; }

void generator_create(int latent, int side, int width0, int width1, int width2, int width3) {
  int given[LAYERS] = {width0, width1, width2, width3};
  latent_size = latent;
  first_side = side;
  size_t largest = (size_t)latent * width0 * side * side;
  for (int i = 0; i < LAYERS; i++) {
    widths[i] = given[i];
    int last = i == LAYERS - 1, outputs = last ? COLOURS : given[i + 1];
    int filters = last ? 9 * COLOURS : FILTER * FILTER * padded(outputs);
    layers[i] = (Layer){given[i], outputs, side << i, allocate((size_t)given[i] * filters * sizeof(float)),
                        allocate(padded(outputs) * sizeof(float))};
    int pitch = (side << i) + 2;
    features[i] = allocate((size_t)pitch * pitch * padded(given[i]) * sizeof(float));
    size_t stored = (size_t)given[i] * (last ? 3 : outputs) * FILTER * FILTER;
    if (stored > largest) largest = stored;
  }
  size_t projected = (size_t)side * side * padded(width0);
  projection = allocate(projected * latent * sizeof(float));
  projection_bias = allocate(projected * sizeof(float));
  z = allocate(latent * sizeof(float));
  pixels = allocate((size_t)4 * (side << LAYERS) * (side << LAYERS));
  int widest = width0 * side * side;
  for (int i = 1; i < LAYERS; i++) widest = given[i] > widest ? given[i] : widest;
  staging_bias = allocate((widest > 3 ? widest : 3) * sizeof(float));
  staging = allocate(largest * sizeof(uint16_t)); /* last, and not needed any more once all is loaded */
}

uint16_t *generator_staging(void) { return staging; }
float *generator_bias(void) { return staging_bias; }
float *generator_z(void) { return z; }

/* [widths[0] * side * side, latent] to [side * side][panel][latent][LANES]. */
static void load_projection(void) {
  int positions = first_side * first_side, channels = padded(widths[0]);
  for (int position = 0; position < positions; position++)
    for (int channel = 0; channel < widths[0]; channel++) {
      int row = channel * positions + position, column = position * channels + channel;
      projection_bias[column] = staging_bias[row];
      float *panel = projection + (size_t)(column / LANES * LANES) * latent_size + column % LANES;
      for (int k = 0; k < latent_size; k++)
        panel[(size_t)k * LANES] = from_half(staging[(size_t)row * latent_size + k]);
    }
}

/* [inputs, outputs, 5, 5] to [phase][panel][tap][input][LANES]. */
static void load_layer(const Layer *layer) {
  float *to = layer->weights;
  for (int phase = 0; phase < 4; phase++) {
    int py = phase >> 1, px = phase & 1;
    for (int first = 0; first < layer->outputs; first += LANES)
      for (int ty = 0; ty < taps(py); ty++)
        for (int tx = 0; tx < taps(px); tx++)
          for (int input = 0; input < layer->inputs; input++)
            for (int lane = 0; lane < LANES; lane++, to++) {
              int output = first + lane;
              if (output >= layer->outputs) continue;
              size_t filter = ((size_t)input * layer->outputs + output) * FILTER * FILTER;
              *to = from_half(staging[filter + (2 * ty + py) * FILTER + 2 * tx + px]);
            }
  }
  for (int output = 0; output < layer->outputs; output++) layer->bias[output] = staging_bias[output];
}

/* [inputs, 3, 5, 5] to [tap of 3x3][input][COLOURS], zero where a phase has no such tap. */
static void load_last(const Layer *layer) {
  for (int phase = 0; phase < 4; phase++)
    for (int ty = 0; ty < taps(phase >> 1); ty++)
      for (int tx = 0; tx < taps(phase & 1); tx++)
        for (int input = 0; input < layer->inputs; input++)
          for (int colour = 0; colour < 3; colour++) {
            size_t filter = ((size_t)input * 3 + colour) * FILTER * FILTER;
            int tap = (2 * ty + (phase >> 1)) * FILTER + 2 * tx + (phase & 1);
            layer->weights[((size_t)(ty * 3 + tx) * layer->inputs + input) * COLOURS + phase * 3 + colour] =
                from_half(staging[filter + tap]);
          }
  for (int i = 0; i < COLOURS; i++) layer->bias[i] = staging_bias[i % 3];
}

/* Take the staged weights and biases for layer 0, the projection, or 1 to 4, the convolutions. */
void generator_load(int index) {
  if (index == 0)
    load_projection();
  else if (index < LAYERS)
    load_layer(&layers[index - 1]);
  else
    load_last(&layers[index - 1]);
}

static void project(void) {
  int channels = padded(widths[0]), pitch = first_side + 2;
  const float *weights = projection, *bias = projection_bias;
  for (int y = 0; y < first_side; y++)
    for (int x = 0; x < first_side; x++) {
      float *to = features[0] + (size_t)((y + 1) * pitch + x + 1) * channels;
      for (int first = 0; first < channels; first += LANES, bias += LANES) {
        v128_t low = wasm_v128_load(bias), high = wasm_v128_load(bias + 4);
        for (int k = 0; k < latent_size; k++, weights += LANES) {
          v128_t value = wasm_v128_load32_splat(z + k);
          low = wasm_f32x4_add(low, wasm_f32x4_mul(value, wasm_v128_load(weights)));
          high = wasm_f32x4_add(high, wasm_f32x4_mul(value, wasm_v128_load(weights + 4)));
        }
        v128_t zero = wasm_f32x4_const_splat(0);
        wasm_v128_store(to + first, wasm_f32x4_pmax(zero, low));
        wasm_v128_store(to + first + 4, wasm_f32x4_pmax(zero, high));
      }
    }
}

/* sum += inputs x weights over all taps: POSITIONS positions by 4 * vectors output channels. */
static inline __attribute__((always_inline)) void multiply(
    v128_t sum[POSITIONS][3], int vectors, const float *const inputs[POSITIONS], const int *offsets, int count,
    int channels, const float *weights) {
  for (int tap = 0; tap < count; tap++) {
    const float *a0 = inputs[0] + offsets[tap], *a1 = inputs[1] + offsets[tap];
    const float *a2 = inputs[2] + offsets[tap], *a3 = inputs[3] + offsets[tap];
    for (int input = 0; input < channels; input++) {
      v128_t values[POSITIONS] = {wasm_v128_load32_splat(a0 + input), wasm_v128_load32_splat(a1 + input),
                                  wasm_v128_load32_splat(a2 + input), wasm_v128_load32_splat(a3 + input)};
#pragma clang loop unroll(full)
      for (int vector = 0; vector < vectors; vector++) {
        v128_t column = wasm_v128_load(weights + 4 * vector);
#pragma clang loop unroll(full)
        for (int i = 0; i < POSITIONS; i++)
          sum[i][vector] = wasm_f32x4_add(sum[i][vector], wasm_f32x4_mul(values[i], column));
      }
      weights += 4 * vectors;
    }
  }
}

static void convolve(const Layer *layer, const float *from, float *to) {
  int side = layer->side, pitch = side + 2, out_pitch = 2 * side + 2, total = side * side;
  int in_channels = padded(layer->inputs), out_channels = padded(layer->outputs);
  const float *weights = layer->weights;
  v128_t zero = wasm_f32x4_const_splat(0);
  for (int phase = 0; phase < 4; phase++) {
    int py = phase >> 1, px = phase & 1, count = 0, offsets[9];
    for (int ty = 0; ty < taps(py); ty++)
      for (int tx = 0; tx < taps(px); tx++) offsets[count++] = ((1 - ty) * pitch + 1 - tx) * in_channels;
    for (int first = 0; first < layer->outputs; first += LANES) {
      v128_t low = wasm_v128_load(layer->bias + first), high = wasm_v128_load(layer->bias + first + 4);
      for (int start = 0; start < total; start += POSITIONS) {
        const float *inputs[POSITIONS];
        float *outputs[POSITIONS];
        v128_t sum[POSITIONS][3];
        for (int i = 0; i < POSITIONS; i++) {
          int position = start + i < total ? start + i : total - 1; /* the last tile may repeat a position */
          int y = position / side, x = position % side;
          inputs[i] = from + (size_t)((y + 1) * pitch + x + 1) * in_channels;
          outputs[i] = to + (size_t)((2 * y + py + 1) * out_pitch + 2 * x + px + 1) * out_channels + first;
          sum[i][0] = low;
          sum[i][1] = high;
        }
        multiply(sum, 2, inputs, offsets, count, layer->inputs, weights);
        for (int i = 0; i < POSITIONS; i++) {
          wasm_v128_store(outputs[i], wasm_f32x4_pmax(zero, sum[i][0]));
          wasm_v128_store(outputs[i] + 4, wasm_f32x4_pmax(zero, sum[i][1]));
        }
      }
      weights += (size_t)count * layer->inputs * LANES;
    }
  }
}

/* tanh to about 1e-6, as 1 - 2 / (exp(2x) + 1). */
static inline v128_t tanh4(v128_t x) {
  x = wasm_f32x4_max(wasm_f32x4_min(x, wasm_f32x4_const_splat(9.f)), wasm_f32x4_const_splat(-9.f));
  v128_t t = wasm_f32x4_mul(x, wasm_f32x4_const_splat(2.885390082f)); /* 2 / ln 2 */
  v128_t whole = wasm_f32x4_nearest(t);
  v128_t f = wasm_f32x4_mul(wasm_f32x4_sub(t, whole), wasm_f32x4_const_splat(0.6931471806f));
  v128_t power = wasm_f32x4_const_splat(1.f / 720);
  const float taylor[] = {1.f / 120, 1.f / 24, 1.f / 6, .5f, 1.f, 1.f};
  for (int i = 0; i < 6; i++) power = wasm_f32x4_add(wasm_f32x4_mul(power, f), wasm_f32x4_splat(taylor[i]));
  v128_t scale = wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(whole), wasm_i32x4_const_splat(127)), 23);
  v128_t one = wasm_f32x4_const_splat(1.f);
  return wasm_f32x4_sub(one, wasm_f32x4_div(wasm_f32x4_const_splat(2.f),
                                            wasm_f32x4_add(wasm_f32x4_mul(power, scale), one)));
}

/* [-1, 1] to the nearest level 0 to 255; halves go to the even one, as in torch. */
static inline v128_t to_level(v128_t value) {
  v128_t level = wasm_f32x4_mul(wasm_f32x4_add(value, wasm_f32x4_const_splat(1.f)), wasm_f32x4_const_splat(127.5f));
  return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(level));
}

static void convolve_last(const Layer *layer, const float *from) {
  int side = layer->side, pitch = side + 2, total = side * side, channels = padded(layer->inputs), offsets[9];
  for (int tap = 0; tap < 9; tap++) offsets[tap] = ((1 - tap / 3) * pitch + 1 - tap % 3) * channels;
  for (int start = 0; start < total; start += POSITIONS) {
    const float *inputs[POSITIONS];
    v128_t sum[POSITIONS][3];
    for (int i = 0; i < POSITIONS; i++) {
      int position = start + i < total ? start + i : total - 1;
      inputs[i] = from + (size_t)((position / side + 1) * pitch + position % side + 1) * channels;
      for (int vector = 0; vector < 3; vector++) sum[i][vector] = wasm_v128_load(layer->bias + 4 * vector);
    }
    multiply(sum, 3, inputs, offsets, 9, layer->inputs, layer->weights);
    for (int i = 0; i < POSITIONS && start + i < total; i++) {
      int levels[COLOURS], y = (start + i) / side, x = (start + i) % side;
      for (int vector = 0; vector < 3; vector++)
        wasm_v128_store(levels + 4 * vector, to_level(tanh4(sum[i][vector])));
      for (int phase = 0; phase < 4; phase++) {
        uint8_t *pixel = pixels + 4 * ((size_t)(2 * y + (phase >> 1)) * 2 * side + 2 * x + (phase & 1));
        for (int colour = 0; colour < 3; colour++) pixel[colour] = (uint8_t)levels[phase * 3 + colour];
        pixel[3] = 255;
      }
    }
  }
}

/* The picture of the vector in generator_z(): RGBA, row by row. */
uint8_t *generator_run(void) {
  project();
  for (int i = 0; i < LAYERS - 1; i++) convolve(&layers[i], features[i], features[i + 1]);
  convolve_last(&layers[LAYERS - 1], features[LAYERS - 1]);
  return pixels;
}
