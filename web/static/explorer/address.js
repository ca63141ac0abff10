// The state of the page as text: in its URL, and in every picture that is saved.

import { say } from "../shared/shell.js";
import { faceOf, initialState, parseSeed, SLOTS, WALL } from "./state.js";
import { fromText } from "./vectors.js";

export const MAX_SUM = 1000; // characters
const MAX_STRENGTH = 100, MAX_NAMED = 3;
const WRITE_MILLISECONDS = 300;
const KEYS = ["seed", "face", "slots", "tool", "pad", "sum", "loop", "plus", "minus", "own"];
const TOOLS = ["sliders", "pad", "morph", "sum", "label", "photo"];
const GROUPS = ["identity", "pose"];

/** Whether a direction of the page can have a name: not that of a lock, nor of what every object has. */
export const isFree = (name) => !GROUPS.includes(name) && !(name in Object.prototype);

/** A face as text: `1.17~smile:1.5~@pose`. */
export function encodeFace(face) {
  if (!face) return "";
  const shifts = Object.entries(face.shift).filter(([, strength]) => strength).map(([name, strength]) => `~${name}:${+strength.toFixed(3)}`);
  return face.base + shifts.join("") + face.locks.map((lock) => `~@${lock}`).join("");
}

/** Whether a text is a face of a wall. */
function isTile(text) {
  const [seed, number, ...more] = text.split(".");
  return !more.length && parseSeed(seed) !== null && /^\d{1,2}$/.test(number) && Number(number) < WALL;
}

/**
 * The face of a text; null if it has no base that can be read.
 * @param {string} text
 * @param {number} size of a vector.
 * @param {function(): void} [onLost] called if an edit of the face cannot be read and is left out.
 */
function decodeFace(text, size, onLost = () => {}) {
  const [base, ...parts] = text.split("~");
  if (!isTile(base) && !(base.startsWith("v") && fromText(base.slice(1), size))) return null;
  const face = faceOf(base);
  for (const part of parts) {
    const [name, text, ...more] = part.split(":"), strength = Number(text);
    if (part.length > 1 && part.startsWith("@")) face.locks.push(part.slice(1));
    else if (name && text && !more.length && Number.isFinite(strength)) {
      face.shift[name] = Math.min(Math.max(strength, -MAX_STRENGTH), MAX_STRENGTH);
      if (face.shift[name] !== strength) onLost();
    } else onLost();
  }
  return face;
}

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
 * The state of a text. What cannot be read is that of a first visit.
 * @param {string} text the fragment of a URL, without `#`.
 * @param {{digest: string, latent_size: number, seed: number|string}} description of this page's generator.
 * @returns {{state: object, isForeign: boolean, lost: string[]}|null} null if the text has no part of a state;
 *   whether it was made with another generator; and what cannot be read, in words.
 */
export function decodeState(text, { digest, latent_size: size, seed: firstSeed }) {
  const query = new URLSearchParams(text);
  if (!KEYS.some((key) => query.has(key))) return null;
  const lost = [];
  const list = (key) => (query.get(key) ? query.get(key).split(",") : []);
  const face = (text, what) => {
    const found = decodeFace(text, size, () => lost.push(`an edit of ${what}`));
    if (!found) lost.push(what);
    return found;
  };

  const seed = parseSeed(query.get("seed") ?? "");
  if (seed === null && query.has("seed")) lost.push("the seed");
  const state = initialState(seed ?? String(firstSeed));
  if (query.has("face")) state.face = face(query.get("face"), "the face") ?? state.face;
  list("slots").forEach((slot, i) => {
    if (i < SLOTS) state.slots[i] = slot ? face(slot, `kept face ${i + 1}`) : null;
    else if (i === SLOTS) lost.push(`more than ${SLOTS} kept faces`);
  });
  state.tool = query.get("tool") ?? state.tool;
  if (!TOOLS.includes(state.tool)) {
    lost.push("the tool");
    state.tool = "sliders";
  }
  state.pad = [...list("pad"), "", ""].slice(0, 2);
  state.sum = (query.get("sum") ?? "").slice(0, MAX_SUM);
  state.loop = query.get("loop") !== "0";
  for (const side of ["plus", "minus"]) {
    state[side] = list(side).filter(isTile);
    if (state[side].length < list(side).length) lost.push("a label");
  }
  for (const one of query.getAll("own")) {
    const [name, text, ...more] = one.split(":");
    if (name && isFree(name) && text && !more.length && fromText(text, size)) state.own.push({ name, text });
    else lost.push(name ? `the direction ${name.slice(0, 40)}` : "a direction");
  }
  return { state, isForeign: query.has("g") && query.get("g") !== digest, lost: [...new Set(lost)] };
}

/** The names in a state that are neither directions nor locks of a generator. */
function unknownNames(state, directions) {
  const own = state.own.map(({ name }) => name);
  const faces = [state.face, ...state.slots].filter(Boolean);
  const named = [...faces.flatMap(({ shift, locks }) => [...Object.keys(shift), ...locks.filter((lock) => !GROUPS.includes(lock))]), ...state.pad];
  return [...new Set(named)].filter((name) => name && !directions.get(name) && !own.includes(name));
}

const listed = (items) => (items.length > MAX_NAMED ? [...items.slice(0, MAX_NAMED), `${items.length - MAX_NAMED} more`] : items).join(", ");

/**
 * What a person should know about a state that was read; empty if all is well.
 * @param {ReturnType<typeof decodeState>} read
 * @param {import("./directions.js").Directions} directions of this generator.
 * @param {string} what it was read from.
 */
export function describeLoss(read, directions, what) {
  if (!read) return `The ${what} contains no state of this page and is ignored.`;
  const parts = [], unknown = unknownNames(read.state, directions);
  if (read.isForeign) parts.push(`This ${what} was made with another generator: its faces look different here.`);
  if (read.lost.length) parts.push(`Part of the ${what} cannot be read and is left out: ${listed(read.lost)}.`);
  if (unknown.length) parts.push(`This generator has no direction ${listed(unknown.map((name) => name.slice(0, 40)))}.`);
  return parts.join(" ");
}

/** The state of the page's URL at its start, and what to say of it. */
export function stateOfAddress(description, directions) {
  const text = location.hash.slice(1), read = decodeState(text, description);
  return {
    state: read?.state ?? initialState(String(description.seed)),
    loss: text ? describeLoss(read, directions, "address") : "",
  };
}

/** Keep the URL's fragment and the state the same. */
export function setUpAddress({ store, description, directions }) {
  const fragment = () => `#${encodeState(store.state, description.digest)}`;
  const write = () => { if (fragment() !== location.hash) history.replaceState(null, "", fragment()); };
  const { onStep } = store;
  store.onStep = (state) => {
    onStep(state);
    write();
  };
  // Also what is no step of undo, such as the tool, but not while a hand is moving.
  let timer;
  store.observe(() => {
    clearTimeout(timer);
    timer = setTimeout(write, WRITE_MILLISECONDS);
  });
  write();
  addEventListener("hashchange", ({ newURL }) => {
    // Not location.hash: a delayed write may already have replaced what was typed.
    const text = new URL(newURL).hash.slice(1);
    if (`#${text}` === fragment()) return;
    const read = decodeState(text, description);
    if (text) {
      const loss = describeLoss(read, directions, "address");
      if (loss) say(loss, { bad: true, seconds: 12 });
    }
    if (read) store.change(read.state);
    else write();
  });
}
