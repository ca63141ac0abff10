// The state of the page: one value, in the page's URL, in every picture that is saved, and in the steps of undo.

const MAX_STEPS = 200;
export const SLOTS = 8;
const MAX_SEED = 2n ** 63n - 1n;
const TILE = /^\d{1,19}\.\d{1,2}$/;

/**
 * @typedef {object} Face
 * @property {string} base `SEED.TILE`, a face of a wall, or `v` and a vector as text.
 * @property {Object<string, number>} shift strength of each direction.
 * @property {string[]} locks see directions.js.
 */

/** A seed as text, because numbers are exact only below 2^53; null unless it is an integer from 0 and below 2^63. */
export function parseSeed(text) {
  if (!/^\d{1,19}$/.test(text)) return null;
  const seed = BigInt(text);
  return seed <= MAX_SEED ? String(seed) : null;
}

/** A face without edits. */
export const faceOf = (base) => ({ base, shift: {}, locks: [] });

/** A face as text: `1.17~smile:1.5~@pose`. */
export function encodeFace(face) {
  if (!face) return "";
  const shifts = Object.entries(face.shift).filter(([, strength]) => strength).map(([name, strength]) => `~${name}:${+strength.toFixed(3)}`);
  return face.base + shifts.join("") + face.locks.map((lock) => `~@${lock}`).join("");
}

/** The face of a text, or null. */
export function decodeFace(text) {
  const [base, ...parts] = (text ?? "").split("~");
  if (!TILE.test(base) && !/^v[\w-]+$/.test(base)) return null;
  const face = faceOf(base);
  for (const part of parts) {
    if (part.startsWith("@")) { face.locks.push(part.slice(1)); continue; }
    const [name, strength] = part.split(":");
    if (name && Number.isFinite(Number(strength))) face.shift[name] = Math.min(Math.max(Number(strength), -20), 20);
  }
  return face;
}

/** The state at the first visit, with a seed as text. */
export const initialState = (seed) => ({
  seed,
  face: faceOf(`${seed}.0`),
  slots: Array(SLOTS).fill(null),
  tool: "sliders",
  pad: ["", ""],
  sum: "",
  loop: true,
  plus: [],
  minus: [],
  own: [],
});

/** The state as the fragment of a URL, without `#`. */
export function encodeState(state, generator) {
  const query = new URLSearchParams({ g: generator, seed: state.seed, face: encodeFace(state.face) });
  if (state.slots.some(Boolean)) query.set("slots", state.slots.map(encodeFace).join(","));
  if (state.tool !== "sliders") query.set("tool", state.tool);
  if (state.pad.some(Boolean)) query.set("pad", state.pad.join(","));
  if (state.sum) query.set("sum", state.sum);
  if (!state.loop) query.set("loop", "0");
  for (const side of ["plus", "minus"]) if (state[side].length) query.set(side, state[side].join(","));
  for (const { name, text } of state.own) query.append("own", `${name}:${text}`);
  return query.toString();
}

/**
 * The state of a text.
 * @param {string} text the fragment of a URL, without `#`.
 * @param {string} generator the digest of this page's.
 * @returns {object|null} null if there is none; `foreign` is true if it was made with another generator.
 */
export function decodeState(text, generator) {
  const query = new URLSearchParams(text);
  const seed = parseSeed(query.get("seed") ?? "");
  const face = decodeFace(query.get("face"));
  if (seed === null || !face) return null;
  const state = { ...initialState(seed), face, foreign: query.get("g") !== generator };
  (query.get("slots") ?? "").split(",").slice(0, SLOTS).forEach((slot, i) => { state.slots[i] = decodeFace(slot); });
  state.tool = query.get("tool") ?? "sliders";
  state.pad = [...(query.get("pad") ?? "").split(","), "", ""].slice(0, 2);
  state.sum = (query.get("sum") ?? "").slice(0, 1000);
  state.loop = query.get("loop") !== "0";
  for (const side of ["plus", "minus"]) state[side] = (query.get(side) ?? "").split(",").filter((base) => TILE.test(base));
  state.own = query.getAll("own").map((one) => one.split(":")).filter((parts) => parts.length === 2)
    .map(([name, text]) => ({ name, text }));
  return state;
}

/** The state, its observers, and the steps of undo. */
export class Store {
  #observers = [];
  #steps = [];
  #position = -1;

  /** @param {object} state @param {function(object): void} onStep called after each step of undo. */
  constructor(state, onStep = () => {}) {
    this.state = state;
    this.onStep = onStep;
    this.#record();
  }

  /** Call a function with the state and the one before, now and after each change. */
  observe(observer) {
    this.#observers.push(observer);
    observer(this.state, null);
  }

  /**
   * Change the state.
   * @param {object} patch the new values.
   * @param {boolean} isStep whether undo returns to before this change; false while a hand is moving.
   */
  change(patch, isStep = true) {
    this.#set({ ...this.state, ...patch });
    if (isStep) this.#record();
  }

  /** Call the observers although the state is the same: something that it refers to has changed. */
  refresh() {
    this.#set(this.state);
  }

  get canUndo() { return this.#position > 0; }
  get canRedo() { return this.#position < this.#steps.length - 1; }

  undo() { if (this.canUndo) this.#go(-1); }
  redo() { if (this.canRedo) this.#go(1); }

  #go(direction) {
    this.#position += direction;
    this.#set(this.#steps[this.#position]);
    this.onStep(this.state);
  }

  #record() {
    if (this.#steps[this.#position] !== this.state) {
      this.#steps.splice(this.#position + 1, Infinity, this.state);
      if (this.#steps.length > MAX_STEPS) this.#steps.shift();
      this.#position = this.#steps.length - 1;
    }
    this.onStep(this.state);
  }

  #set(state) {
    const before = this.state;
    this.state = state;
    for (const observer of this.#observers) observer(state, before);
  }
}
