// Faces as buttons that can be dragged, and places that they can be dropped on.

import { element } from "../shared/shell.js";
import { decodeFace, encodeFace } from "./state.js";

const TYPE = "application/x-face";

/**
 * A canvas that shows a picture.
 * @param {number} side in pixels.
 */
export const canvasOf = (side) => element("canvas", { width: side, height: side });

/** Show a picture on a canvas; nothing happens without one. */
export function paint(canvas, picture) {
  if (!picture) return;
  if (canvas.width !== picture.width) canvas.width = canvas.height = picture.width;
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/**
 * A tile: a button with a canvas and a number, that can be dragged once it has a face.
 * @param {number} side of its picture.
 * @param {string} label for screen readers.
 * @param {number} number shown on it.
 * @returns {{button: HTMLButtonElement, canvas: HTMLCanvasElement, setFace: function(object|null): void}}
 */
export function tile(side, label, number) {
  const canvas = canvasOf(side);
  const button = element("button", { className: "tile", type: "button", "aria-label": label }, canvas, element("span", { className: "number" }, String(number)));
  let face = null;
  button.addEventListener("dragstart", (event) => {
    event.dataTransfer.setData(TYPE, encodeFace(face));
    event.dataTransfer.setData("text/plain", String(number));
    event.dataTransfer.effectAllowed = "copy";
    event.dataTransfer.setDragImage(canvas, canvas.clientWidth / 2, canvas.clientHeight / 2);
  });
  return {
    button,
    canvas,
    setFace(value) {
      face = value;
      button.draggable = Boolean(value);
    },
  };
}

/**
 * Let faces be dropped on an element.
 * @param {HTMLElement} target
 * @param {function(object, string): void} onFace called with the face, and its number as text.
 */
export function acceptFaces(target, onFace) {
  const holds = (event) => event.dataTransfer.types.includes(TYPE);
  target.addEventListener("dragover", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    target.classList.add("over");
  });
  for (const type of ["dragleave", "drop"]) target.addEventListener(type, () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    event.stopPropagation();
    const face = decodeFace(event.dataTransfer.getData(TYPE));
    if (face) onFace(face, event.dataTransfer.getData("text/plain"));
  });
}

/** Call a function with the files that are dropped anywhere on the page, or pasted. */
export function acceptFiles(onFiles) {
  document.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    onFiles([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) onFiles(files);
  });
}
