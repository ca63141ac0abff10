// The state of the page: one value, and the steps of undo. address.js has it as text.

const MAX_STEPS = 200;
export const SLOTS = 8;
export const MAX_SEED = 2n ** 63n - 1n;
export const WALL = 64;

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
    // Choosing a tool is no step: undo leaves the one in use open.
    this.#set({ ...this.#steps[this.#position], tool: this.state.tool });
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
