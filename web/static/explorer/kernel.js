// The generator in WebAssembly; kernel/generator.c computes it.

import { parseSafetensors } from "./safetensors.js";

/**
 * Compile the kernel and give it a generator's weights.
 * @param {BufferSource} code of kernel/generator.wasm.
 * @param {ArrayBuffer} file that gan/export/page_weights.py wrote.
 * @returns {Promise<{side: number, run: function(ArrayLike<number>): Uint8ClampedArray}>} the side of the pictures,
 *   and a function from a latent vector to a picture's RGBA values.
 * @throws {Error} if the browser has no WebAssembly SIMD, or the file is damaged.
 */
export async function createGenerator(code, file) {
  const { metadata, tensors } = parseSafetensors(file);
  const description = JSON.parse(metadata.page);
  const side = description.image_size;
  const { instance } = await WebAssembly.instantiate(code, {});
  const kernel = instance.exports;
  kernel.generator_create(description.latent_size, side / 16, ...description.widths);
  // The memory's buffer is replaced whenever it grows, so views of it are made at each use.
  const floats = (pointer, count) => new Float32Array(kernel.memory.buffer, pointer, count);
  for (let layer = 0; layer < 5; layer++) {
    const weight = tensors[`layer${layer}.weight`].data, bias = tensors[`layer${layer}.bias`].data;
    new Uint16Array(kernel.memory.buffer, kernel.generator_staging(), weight.length).set(weight);
    floats(kernel.generator_bias(), bias.length).set(bias);
    kernel.generator_load(layer);
  }
  return {
    side,
    run(z) {
      floats(kernel.generator_z(), z.length).set(z);
      return new Uint8ClampedArray(kernel.memory.buffer, kernel.generator_run(), 4 * side * side).slice();
    },
  };
}
