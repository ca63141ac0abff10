// The latent vectors of a seed, as gan.latent.vectors.draw makes them: NumPy's SeedSequence and PCG64.

const MASK_32 = 0xffffffffn, MASK_64 = (1n << 64n) - 1n, MASK_128 = (1n << 128n) - 1n;
const PCG_MULTIPLIER = (2549297995355413924n << 64n) + 4865540595714422341n;

/** The 32-bit words that numpy.random.SeedSequence(seed) generates, for a seed of at most 128 bits. */
function seedWords(seed, count) {
  const entropy = [];
  for (let rest = BigInt(seed); rest > 0n || entropy.length === 0; rest >>= 32n) entropy.push(Number(rest & MASK_32));
  let constant = 0x43b0d7e5;
  const hash = (value) => {
    value = (value ^ constant) >>> 0;
    constant = Math.imul(constant, 0x931e8875) >>> 0;
    value = Math.imul(value, constant) >>> 0;
    return (value ^ (value >>> 16)) >>> 0;
  };
  const mix = (x, y) => {
    const value = (Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)) >>> 0;
    return (value ^ (value >>> 16)) >>> 0;
  };
  const pool = [0, 1, 2, 3].map((i) => hash(entropy[i] ?? 0));
  for (let from = 0; from < 4; from++) {
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from]));
  }
  let outConstant = 0x8b51f9dd;
  return Array.from({ length: count }, (_, i) => {
    let value = (pool[i % 4] ^ outConstant) >>> 0;
    outConstant = Math.imul(outConstant, 0x58f38ded) >>> 0;
    value = Math.imul(value, outConstant) >>> 0;
    return (value ^ (value >>> 16)) >>> 0;
  });
}

/**
 * Draw vectors from the prior, uniform in [-1, 1); the same as sample.py's for the same seed.
 * @param {number} count of vectors.
 * @param {number} size of a vector.
 * @param {number|string} seed from 0; text if it may exceed 2^53.
 * @returns {Float32Array[]}
 */
export function draw(count, size, seed) {
  const words = seedWords(seed, 8).map(BigInt);
  const [high, low, streamHigh, streamLow] = [0, 2, 4, 6].map((i) => words[i] | (words[i + 1] << 32n));
  const increment = (((streamHigh << 64n) | streamLow) << 1n | 1n) & MASK_128;
  let state = increment; // a step from 0
  const step = () => { state = (state * PCG_MULTIPLIER + increment) & MASK_128; };
  state = (state + ((high << 64n) | low)) & MASK_128;
  step();
  const next = () => {
    step();
    const value = (state >> 64n) ^ (state & MASK_64);
    const turn = state >> 122n;
    const turned = ((value >> turn) | (value << (64n - turn))) & MASK_64;
    return Number(turned >> 40n) * 2 ** -23 - 1;
  };
  return Array.from({ length: count }, () => Float32Array.from({ length: size }, next));
}
