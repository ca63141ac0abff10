// What the parts of the page share: the generator, the directions, and the state.

import { draw } from "./random.js";
import { moveBy, toGaussian } from "./gaussian.js";
import { WALL } from "./state.js";
import { fromText } from "./vectors.js";

const REMEMBERED_WALLS = 20;

/** The generator, the directions and the state of a page. */
export class Lab {
  /** @type {Map<string, ImageData>} the crops of photos by the bases of their faces. */
  photos = new Map();
  #walls = new Map();

  /**
   * @param {import("./engine.js").Engine} engine
   * @param {object} description of the generator, as gan/export/page_weights.py wrote it.
   * @param {import("./directions.js").Directions} directions
   * @param {Float64Array[]} metric see `learnDirection`.
   * @param {import("./state.js").Store} store
   */
  constructor(engine, description, directions, metric, store) {
    Object.assign(this, { engine, description, directions, metric, store });
    this.size = description.latent_size;
    this.side = description.image_size;
  }

  /** The vector of a face before its edits; zeros if the text is not one. */
  baseVector(base) {
    if (base.startsWith("v")) return fromText(base.slice(1), this.size) ?? new Float32Array(this.size);
    const [seed, number] = base.split(".");
    return this.wall(seed)[Number(number) % WALL];
  }

  /** The vectors of a wall, the faces of sample.py's grid with the same seed, which is text. */
  wall(seed) {
    if (!this.#walls.has(seed)) {
      if (this.#walls.size >= REMEMBERED_WALLS) this.#walls.delete(this.#walls.keys().next().value);
      this.#walls.set(seed, draw(WALL, this.size, seed));
    }
    return this.#walls.get(seed);
  }

  /** The vector of a face with its edits. */
  vector(face) {
    return moveBy(this.baseVector(face.base), this.directions.step(face.shift, face.locks, this.size, face.base));
  }

  /** The vector of a face in the Gaussian coordinate. */
  gaussian(face) {
    return toGaussian(this.vector(face));
  }

  /** A picture of a face; see `Engine.picture`. */
  picture(face, options) {
    return this.engine.picture(this.vector(face), options);
  }
}
