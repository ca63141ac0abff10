// A square in which two directions are moved at once, over a map of what is where.

import { element } from "../shared/shell.js";
import { shownName, shownStrength } from "./directions.js";
import { canvasOf, paint } from "./tiles.js";

const RANGE = 3, CELLS = 5, STEP = 0.25, DELAY = 150;

/** @param {import("./lab.js").Lab} lab */
export function setUpPad(lab) {
  const { store, directions } = lab;
  const panel = document.getElementById("tool-pad");
  const selects = ["to the right", "upwards"].map((where, axis) => {
    const select = element("select");
    select.addEventListener("change", () => {
      const pad = [...names()];
      pad[axis] = select.value;
      store.change({ pad });
    });
    return { select, label: element("label", {}, where, select) };
  });
  const cells = Array.from({ length: CELLS * CELLS }, () => canvasOf(lab.side));
  const knob = element("span", { className: "knob" });
  const values = element("output", { className: "small" }); // which screen readers also read
  const pad = element("div", { className: "pad", tabIndex: 0, role: "application", "aria-label": "Two directions at once; use the arrow keys" },
    element("div", { className: "map" }, ...cells), knob);
  panel.append(element("div", { className: "axes" }, ...selects.map(({ label }) => label)), pad, values,
    element("p", { className: "soft small", textContent: "Drag, or use the arrow keys. The map shows the face at five strengths of each direction, from −3 to 3." }));

  const names = () => [0, 1].map((axis) => (directions.get(store.state.pad[axis]) ? store.state.pad[axis] : directions.names[axis] ?? ""));
  const strengths = () => names().map((name) => store.state.face.shift[name] ?? 0);
  const faceAt = (values) => {
    const { face } = store.state;
    const [x, y] = names();
    return { ...face, shift: { ...face.shift, [x]: values[0], [y]: values[1] } };
  };
  const clip = (value) => Math.min(Math.max(value, -RANGE), RANGE);
  const move = (values, isStep) => store.change({ face: faceAt(values.map(clip)) }, isStep);

  const fromPointer = (event) => {
    const box = pad.getBoundingClientRect();
    return [(2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height].map((value) => RANGE * value);
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pad.setPointerCapture(event.pointerId);
    move(fromPointer(event), false);
  });
  // A pointer that went down elsewhere, as with a face that is dragged across, moves nothing.
  for (const [type, isStep] of [["pointermove", false], ["pointerup", true]]) {
    pad.addEventListener(type, (event) => { if (pad.hasPointerCapture(event.pointerId)) move(fromPointer(event), isStep); });
  }
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [STEP, 0], ArrowLeft: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(strengths().map((value, axis) => value + step[axis]), true);
  });

  const directionsChanged = directions.watch();
  let shown = "", listed = "", timer;
  const drawMap = () => {
    cells.forEach((canvas, i) => {
      const at = (index) => RANGE * ((2 * index) / (CELLS - 1) - 1);
      const face = faceAt([at(i % CELLS), -at(Math.floor(i / CELLS))]);
      lab.picture(face, { purpose: `pad ${i}` }).then((picture) => paint(canvas, picture));
    });
  };
  store.observe((state) => {
    const all = directions.names.join();
    selects.forEach(({ select }, axis) => {
      if (all !== listed) select.replaceChildren(...directions.names.map((name) => element("option", { value: name, textContent: shownName(name) })));
      select.value = names()[axis];
    });
    listed = all;
    const [x, y] = strengths();
    values.value = names().map((name, axis) => `${shownName(name)} ${shownStrength([x, y][axis])}`).join(", ");
    knob.style.left = `${50 + (50 * clip(x)) / RANGE}%`;
    knob.style.top = `${50 - (50 * clip(y)) / RANGE}%`;
    if (state.tool !== "pad") return;
    // The map does not depend on where the knob is.
    const wanted = JSON.stringify([names(), faceAt([0, 0])]);
    if (!directionsChanged() && wanted === shown) return;
    shown = wanted;
    clearTimeout(timer);
    timer = setTimeout(drawMap, DELAY);
  });
}
