// The wall of 64 faces, and the slots for faces to keep.

import { element, say } from "../shared/shell.js";
import { encodeFace } from "./address.js";
import { acceptFaces } from "./drag.js";
import { faceOf, MAX_SEED, parseSeed, SLOTS, WALL } from "./state.js";
import { paint, tile } from "./tiles.js";

/** What a screen reader says of a labelled tile, whose sign is drawn by the style sheet. */
const DESCRIPTIONS = { plus: "labelled +", minus: "labelled −" };

/** @param {import("./lab.js").Lab} lab */
export function setUpWall(lab) {
  setUpGrid(lab);
  setUpSeed(lab);
  setUpSlots(lab);
}

function setUpGrid(lab) {
  const { store } = lab;
  const wall = document.getElementById("wall");
  const tiles = Array.from({ length: WALL }, (_, i) => tile(lab.side, `Face ${i}`, i));
  wall.append(...tiles.map(({ button }) => button));
  tiles.forEach(({ button }, i) => {
    button.tabIndex = i ? -1 : 0;
    button.addEventListener("click", () => chooseTile(lab, i));
    button.addEventListener("keydown", (event) => {
      if (/^[1-8]$/.test(event.key)) {
        keep(lab, faceOf(`${store.state.seed}.${i}`), Number(event.key) - 1);
        event.stopPropagation();
        return;
      }
      const next = neighbour(tiles.map((one) => one.button), i, event.key);
      if (!next) return;
      event.preventDefault();
      button.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  });
  store.observe((state, before) => {
    if (state.seed !== before?.seed) {
      lab.engine.cancel("wall ");
      tiles.forEach(({ canvas, setFace }, i) => {
        const face = faceOf(`${state.seed}.${i}`);
        setFace(face);
        lab.picture(face, { purpose: `wall ${i}` }).then((picture) => paint(canvas, picture));
      });
    }
    for (const place of [wall, document.getElementById("slots")]) place.classList.toggle("numbered", state.tool === "sum");
    tiles.forEach(({ button }, i) => {
      const base = `${state.seed}.${i}`;
      button.setAttribute("aria-current", String(state.face.base === base));
      const label = state.tool === "label" && ["plus", "minus"].find((side) => state[side].includes(base));
      for (const [name, value] of [["data-label", label], ["aria-description", DESCRIPTIONS[label]]]) {
        if (value) button.setAttribute(name, value);
        else button.removeAttribute(name);
      }
    });
  });
}

/** The button beside another one as they are laid out, which a narrow page does by columns; undefined for none. */
function neighbour(buttons, number, key) {
  const { offsetLeft: left, offsetTop: top } = buttons[number];
  const found = {
    ArrowRight: buttons.find((one) => one.offsetTop === top && one.offsetLeft > left),
    ArrowLeft: buttons.findLast((one) => one.offsetTop === top && one.offsetLeft < left),
    ArrowDown: buttons.find((one) => one.offsetLeft === left && one.offsetTop > top),
    ArrowUp: buttons.findLast((one) => one.offsetLeft === left && one.offsetTop < top),
  };
  return found[key];
}

/** Edit a face of the wall or, in the tool `label`, give it the next label. */
function chooseTile({ store }, number) {
  const { state } = store;
  const base = `${state.seed}.${number}`;
  if (state.tool !== "label") {
    // A double click is one step of undo.
    if (encodeFace(state.face) !== base) store.change({ face: faceOf(base) });
    return;
  }
  const without = (bases) => bases.filter((other) => other !== base);
  const { plus, minus } = state;
  if (plus.includes(base)) store.change({ plus: without(plus), minus: [...minus, base] });
  else if (minus.includes(base)) store.change({ minus: without(minus) });
  else store.change({ plus: [...plus, base] });
}

function setUpSeed({ store }) {
  const field = document.getElementById("seed");
  const go = (text) => {
    const seed = parseSeed(text);
    if (seed !== null) {
      store.change({ seed });
      return;
    }
    field.value = store.state.seed;
    const asked = text ? `${text.slice(0, 30)} is not a seed` : "A wall needs a seed";
    say(`${asked}: give a whole number from 0 to ${MAX_SEED}. The wall has not changed.`, { bad: true });
  };
  const goBy = (step) => go(String(BigInt(store.state.seed) + step));
  field.addEventListener("change", () => go(field.value.trim()));
  document.getElementById("next").addEventListener("click", () => goBy(1n));
  document.getElementById("previous").addEventListener("click", () => goBy(-1n));
  store.observe(({ seed }) => {
    field.value = seed;
    document.getElementById("previous").disabled = seed === "0";
    document.getElementById("next").disabled = seed === String(MAX_SEED);
  });
}

function setUpSlots(lab) {
  const { store } = lab;
  const slots = Array.from({ length: SLOTS }, (_, i) => {
    const made = tile(lab.side, `Slot ${i + 1}`, WALL + i);
    const remove = element("button", { className: "remove", type: "button", textContent: "×", "aria-label": `Empty slot ${i + 1}` });
    const box = element("div", { className: "slot" }, made.button, remove);
    made.button.dataset.slot = i + 1;
    made.button.addEventListener("click", () => {
      if (store.state.slots[i]) store.change({ face: store.state.slots[i] });
      else keep(lab, store.state.face, i);
    });
    remove.addEventListener("click", () => {
      keep(lab, null, i);
      made.button.focus(); // as this one is hidden now
    });
    acceptFaces(box, (face) => keep(lab, face, i));
    return { ...made, remove, box };
  });
  document.getElementById("slots").append(...slots.map(({ box }) => box));
  const directionsChanged = lab.directions.watch();
  store.observe((state, before) => {
    const all = directionsChanged();
    slots.forEach(({ button, canvas, remove, setFace }, i) => {
      const face = state.slots[i];
      if (!all && face === before.slots[i]) return;
      setFace(face);
      remove.hidden = !face;
      button.classList.toggle("empty-slot", !face);
      button.setAttribute("aria-label", face ? `Slot ${i + 1}: edit this face` : `Slot ${i + 1}, empty: keep the face here`);
      canvas.hidden = !face;
      if (face) lab.picture(face, { purpose: `slot ${i}`, urgency: 1 }).then((picture) => paint(canvas, picture));
    });
  });
}

/**
 * Put a face into a slot.
 * @param {import("./lab.js").Lab} lab
 * @param {object|null} face null empties the slot.
 * @param {number} [slot] by default the first that is free.
 */
export function keep({ store }, face, slot) {
  if (slot === undefined) {
    const place = store.state.slots.findIndex((kept) => kept && encodeFace(kept) === encodeFace(face));
    if (place >= 0) {
      say(`This face is already kept, in slot ${place + 1}.`);
      return;
    }
    slot = store.state.slots.indexOf(null);
  }
  if (slot < 0) {
    say("All slots are full: empty one, or drop the face on the one to replace.");
    return;
  }
  const slots = [...store.state.slots];
  if (encodeFace(slots[slot]) === encodeFace(face)) return;
  slots[slot] = face;
  store.change({ slots });
}
