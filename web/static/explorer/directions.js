// Directions of the latent space, and what they must leave as it is.

import { addOuter, diagonal, dot, solve, unit } from "./linear.js";

/** Names of directions that turn the head. */
const POSE = /^(yaw|pitch|roll|tilt|pose|turn|turned|turns|head_turn|left|right|looks?_(left|right|up|down))$/i;
const HARD = 1e4;
/** Weight of a change of identity, beside a weight of 1 for the length of the step. With much more, the steps
 * become so long that faces change in other ways; see docs/explorer.md. */
const IDENTITY = 4;
const MAX_IDENTITIES = 50;

/** The name of a direction, as the page shows it. */
export const shownName = (name) => name.replaceAll("_", " ");

/** A strength, as the page shows it. */
export const shownStrength = (strength) => (strength ? strength.toFixed(2).replace("-", "−") : "0");

/**
 * @typedef {object} Direction
 * @property {string} name which a sum can contain.
 * @property {Float64Array} vector of length 1, in the Gaussian coordinate.
 * @property {"named"|"own"|"unnamed"} kind of a run, learnt in this page, or unnamed.
 * @property {object} scores as directions.py measured them; empty if nobody did.
 */

/** The directions of a page. */
export class Directions {
  #identities = new Map();
  #version = 0;
  #byName = new Map();
  #cache = new Map();

  /** @param {Direction[]} given */
  constructor(given) {
    for (const direction of given) this.add(direction);
  }

  get all() { return [...this.#byName.values()]; }
  get names() { return [...this.#byName.keys()]; }
  get(name) { return this.#byName.get(name); }

  /**
   * A function that tells whether a direction, or what identifies a face, has changed since its last call; the first
   * call returns true. Pictures of the same face differ then.
   */
  watch() {
    let seen;
    return () => {
      const changed = seen !== this.#version;
      seen = this.#version;
      return changed;
    };
  }

  #changed() {
    this.#version++;
    this.#cache.clear();
  }

  /** Add a direction, or replace the one of this name. */
  add(direction) {
    this.#byName.set(direction.name, { scores: {}, ...direction, vector: unit(direction.vector) });
    this.#changed();
  }

  remove(name) {
    this.#byName.delete(name);
    this.#changed();
  }

  /** Set how the features of a face change with u: the rows of a linear map. */
  setIdentity(base, rows) {
    if (this.#identities.size >= MAX_IDENTITIES) this.#identities.delete(this.#identities.keys().next().value);
    this.#identities.set(base, rows);
    this.#changed();
  }

  /** Whether it is known how the features of a face change. */
  hasIdentity(base) {
    return this.#identities.has(base);
  }

  /** Whether a direction turns the head, so that `pose` can be locked. */
  get hasPose() { return this.names.some((name) => POSE.test(name)); }

  /**
   * The step in u for strengths, given locks.
   *
   * A lock is the name of a direction, or `pose` for all that turn the head, or `identity`. It holds other directions
   * to a face's own strength of those that it names. A direction d under the locks that do not name it becomes M^-1 d / (d' M^-1 d): of all steps that go one unit along d, the one that is shortest in M,
   * in which locked directions count very much and, with `identity`, changes of identity count too.
   * @param {Object<string, number>} strengths
   * @param {string[]} locks
   * @param {number} size of a vector.
   * @param {string} [base] of the face, whose identity `identity` keeps; nothing is kept before it was measured.
   * @returns {Float64Array}
   */
  step(strengths, locks, size, base) {
    const total = new Float64Array(size);
    for (const [name, strength] of Object.entries(strengths)) {
      const vector = strength && this.#underLocks(name, locks, size, base);
      if (vector) for (let i = 0; i < size; i++) total[i] += strength * vector[i];
    }
    return total;
  }

  /** Whether a direction is held by the locks. */
  isLocked(name, locks) {
    return locks.includes(name) || (locks.includes("pose") && POSE.test(name));
  }

  #underLocks(name, locks, size, base) {
    const direction = this.get(name);
    if (!direction) return null;
    // What is locked keeps its own strength, and looks as before.
    const others = locks.filter((lock) => !this.isLocked(name, [lock]));
    const held = this.names.filter((other) => this.isLocked(other, others));
    const identity = others.includes("identity") && this.#identities.get(base);
    if (!held.length && !identity) return direction.vector;
    const key = [name, ...held, identity ? `identity of ${base}` : ""].join(" ");
    if (!this.#cache.has(key)) {
      const metric = diagonal(size, 1);
      for (const other of held) addOuter(metric, this.get(other).vector, HARD);
      if (identity) for (const row of identity) addOuter(metric, row, IDENTITY);
      const [vector] = solve(metric, [direction.vector]);
      // At least a tenth: two directions that are nearly the same cannot be told apart.
      const along = Math.max(dot(vector, direction.vector), 0.1 * Math.sqrt(dot(vector, vector)));
      this.#cache.set(key, vector.map((value) => value / along));
    }
    return this.#cache.get(key);
  }
}

/**
 * A direction from labelled faces: ridge regression of the labels on u.
 * @param {Float64Array[]} plus faces that have it, in u.
 * @param {Float64Array[]} minus faces that do not.
 * @param {ArrayLike<number>[]} metric how much the face changes along each direction of u, [size, size], symmetric.
 *   Twenty labels do not fix a hundred numbers, so directions that change the face are preferred to those that do
 *   not: the prior of the weights is the metric's square, which is better than the metric (docs/explorer.md).
 * @returns {Float64Array} of length 1.
 */
export function learnDirection(plus, minus, metric) {
  const rows = [...plus, ...minus];
  const labels = [...plus.map(() => 1 / plus.length), ...minus.map(() => -1 / minus.length)];
  const size = rows[0].length;
  const mean = Float64Array.from({ length: size }, (_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
  const centred = rows.map((row) => row.map((value, i) => value - mean[i]));
  const times = (row) => Float64Array.from(metric, (line) => dot(line, row));
  const weighted = centred.map((row) => times(times(row)));
  const kernel = centred.map((row) => Float64Array.from(weighted, (other) => dot(row, other)));
  const ridge = kernel.reduce((sum, row, i) => sum + row[i], 0) / rows.length;
  kernel.forEach((row, i) => { row[i] += ridge; });
  const [weights] = solve(kernel, [labels]);
  return unit(Float64Array.from({ length: size }, (_, i) => weighted.reduce((sum, row, k) => sum + weights[k] * row[i], 0)));
}
