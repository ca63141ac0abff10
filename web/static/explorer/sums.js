// A sum of faces and directions, with the grammar of interpolate.py --arithmetic.

import { element, say } from "../shared/shell.js";
import { MAX_SUM } from "./address.js";
import { evaluateSum, parseSum } from "./arithmetic.js";
import { acceptFaces } from "./drag.js";
import { SLOTS, WALL } from "./state.js";
import { paint, tile } from "./tiles.js";
import { toText } from "./vectors.js";

/** @param {import("./lab.js").Lab} lab */
export function setUpSum(lab) {
  const { store, directions } = lab;
  const panel = document.getElementById("tool-sum");
  const field = element("input", { type: "text", spellcheck: false, autocomplete: "off", maxLength: MAX_SUM, placeholder: "3,17,42 - 5,8,9 + 11" });
  const wrong = element("p", { className: "wrong small", role: "status" });
  const result = tile(lab.side, "Edit the result", "=");
  result.button.querySelector(".number").remove();
  panel.append(
    element("label", { className: "field" }, "Sum of faces", field), wrong,
    element("div", { className: "result" }, result.button),
    element("p", { className: "soft small" }, "A number is a face: 0 to 63 on the wall, 64 to 71 in the slots. A list such as 3,17,42 is the mean of its faces. ",
      "Weights are written 0.5*17; directions by name, such as 1.5*", directions.names[0] ?? "smile", ". Drag a face here to add its number."));

  const vector = (number) => {
    if (number < WALL) return lab.wall(store.state.seed)[number];
    const face = store.state.slots[number - WALL];
    if (!face) throw new Error(`slot ${number - WALL + 1}, whose number is ${number}, is empty`);
    return lab.vector(face);
  };
  /** The face that the sum gives, or null if it is empty. Throws an `Error` with a message for the user. */
  const value = () => {
    if (!store.state.sum.trim()) return null;
    const { z, strengths } = evaluateSum(parseSum(store.state.sum, WALL + SLOTS, directions.names), vector, lab.size);
    if (!z.every(Number.isFinite)) throw new Error("the value is too large: give smaller weights");
    return { face: { base: `v${toText(z)}`, shift: strengths, locks: [] } };
  };

  let face = null;
  result.button.addEventListener("click", () => { if (face) store.change({ face }); });
  field.addEventListener("input", () => store.change({ sum: field.value }, false));
  field.addEventListener("change", () => store.change({ sum: field.value }));
  acceptFaces(panel, (dropped, number) => {
    const { selectionStart: start, selectionEnd: end, value: text } = field;
    const before = text.slice(0, start), after = text.slice(end);
    const joint = /[\d.]\s*$/.test(before) ? "," : "";
    const slot = /^\d+$/.test(number) ? number : freeSlot(store, dropped);
    if (slot === null) {
      say("A result is added as a kept face, and all slots are full: empty a slot first.", { bad: true });
      return;
    }
    field.value = `${before}${joint}${slot}${after}`;
    store.change({ sum: field.value });
    field.focus();
    field.setSelectionRange(before.length + joint.length + String(slot).length, before.length + joint.length + String(slot).length);
  });

  const directionsChanged = directions.watch();
  store.observe((state, before) => {
    if (state.tool !== "sum") return;
    if (!directionsChanged() && state.sum === before.sum && state.seed === before.seed && state.slots === before.slots && before.tool === "sum") return;
    if (field.value !== state.sum) field.value = state.sum;
    wrong.textContent = "";
    try {
      face = value()?.face ?? null;
    } catch (error) {
      face = null;
      wrong.textContent = error.message;
    }
    result.setFace(face);
    result.button.disabled = !face;
    if (face) lab.picture(face, { purpose: "sum", urgency: 2 }).then((picture) => paint(result.canvas, picture));
  });
}

/** Put a face without a number, such as a result, into a slot; its number there, or null if none is free. */
function freeSlot(store, face) {
  const slot = store.state.slots.indexOf(null);
  if (slot < 0) return null;
  store.change({ slots: store.state.slots.with(slot, face) }, false);
  return WALL + slot;
}
