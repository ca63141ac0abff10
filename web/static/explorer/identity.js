// What identifies a face, as a linear map from u: the structure of its middle, without brightness and contrast.

import { addOuter, diagonal, dot, solve } from "./linear.js";
import { draw } from "./random.js";
import { toGaussian } from "./gaussian.js";

const FACES = 400;
const SEED = 2_000_003;
const CELLS = 10;
const MIDDLE = [0.2, 0.8];
const RIDGE = 0.1;

/**
 * Measure the map on faces of the generator, which takes some seconds, and give it to the directions.
 * @param {import("./lab.js").Lab} lab
 * @param {function(number): void} onProgress called with the share that is done.
 */
export async function learnIdentity({ engine, directions, size }, onProgress) {
  const vectors = draw(FACES, size, SEED);
  let done = 0;
  const features = await Promise.all(vectors.map(async (z) => {
    const picture = await engine.picture(z);
    onProgress(++done / FACES);
    return describe(picture);
  }));
  directions.setIdentity(regress(vectors.map(toGaussian), features));
}

/** Mean brightness of CELLS x CELLS cells of the middle, with mean 0 and length 1. */
export function describe({ data, width }) {
  const start = Math.floor(MIDDLE[0] * width), cell = ((MIDDLE[1] - MIDDLE[0]) * width) / CELLS;
  const sums = new Float64Array(CELLS * CELLS), counts = new Float64Array(CELLS * CELLS);
  for (let y = start; y < start + CELLS * cell; y++) {
    for (let x = start; x < start + CELLS * cell; x++) {
      const index = Math.min(CELLS - 1, Math.floor((y - start) / cell)) * CELLS + Math.min(CELLS - 1, Math.floor((x - start) / cell));
      const pixel = 4 * (y * width + x);
      sums[index] += 0.299 * data[pixel] + 0.587 * data[pixel + 1] + 0.114 * data[pixel + 2];
      counts[index]++;
    }
  }
  const levels = sums.map((sum, i) => sum / counts[i]);
  const mean = levels.reduce((sum, value) => sum + value, 0) / levels.length;
  const centred = levels.map((value) => value - mean);
  const length = Math.sqrt(dot(centred, centred)) || 1;
  return centred.map((value) => value / length);
}

/**
 * Ridge regression of features on u.
 * @param {Float64Array[]} inputs [N, size]
 * @param {Float64Array[]} features [N, K]
 * @returns {Float64Array[]} the map [K, size], scaled so that a random step of length 1 changes the features by
 *   a length of 1 on average.
 */
function regress(inputs, features) {
  const size = inputs[0].length, kinds = features[0].length;
  const gram = diagonal(size, RIDGE * inputs.length);
  for (const input of inputs) addOuter(gram, input, 1);
  const means = Float64Array.from({ length: kinds }, (_, k) => features.reduce((sum, row) => sum + row[k], 0) / features.length);
  const sides = Array.from({ length: kinds }, (_, k) => {
    const side = new Float64Array(size);
    inputs.forEach((input, n) => {
      const weight = features[n][k] - means[k];
      for (let i = 0; i < size; i++) side[i] += weight * input[i];
    });
    return side;
  });
  const map = solve(gram, sides);
  const scale = Math.sqrt(size / map.reduce((sum, line) => sum + dot(line, line), 0));
  return map.map((line) => line.map((value) => scale * value));
}
