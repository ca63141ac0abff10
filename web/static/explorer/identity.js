// How the features of a face change beside it: the structure of its middle, without brightness and contrast.

import { moveBy } from "./gaussian.js";
import { dot } from "./linear.js";

const CELLS = 10;
const MIDDLE = [0.2, 0.8];
/** Half the distance in u over which a change is measured: pictures have only 256 levels. */
const STEP = 0.15;

/**
 * Measure the derivative of a face's features by u, by two pictures for each coordinate, and give it to the directions.
 * @param {import("./lab.js").Lab} lab
 * @param {string} base of the face.
 * @param {function(number): void} onProgress called with the share that is done.
 */
export async function learnIdentity(lab, base, onProgress) {
  const { engine, directions, size } = lab, z = lab.baseVector(base);
  let done = 0;
  const featuresAt = async (i, distance) => {
    const picture = await engine.picture(moveBy(z, Float64Array.from({ length: size }, (_, k) => (k === i ? distance : 0))));
    onProgress(++done / (2 * size));
    return describe(picture);
  };
  const columns = await Promise.all(Array.from({ length: size }, async (_, i) => {
    const [after, before] = await Promise.all([featuresAt(i, STEP), featuresAt(i, -STEP)]);
    return after.map((value, k) => (value - before[k]) / (2 * STEP));
  }));
  directions.setIdentity(base, Array.from(columns[0], (_, k) => Float64Array.from(columns, (column) => column[k])));
}

/** Mean brightness of CELLS x CELLS cells of the middle, with mean 0 and length 1. */
function describe({ data, width }) {
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
