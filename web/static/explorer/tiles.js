// Faces as buttons that can be dragged, and files that are dropped.

import { droppedFiles } from "../shared/files.js";
import { element } from "../shared/shell.js";
import { letDrag } from "./drag.js";

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
  letDrag(button, canvas, () => face && { face, number: String(number) });
  return {
    button,
    canvas,
    setFace(value) {
      face = value;
    },
  };
}

/** Call a function with the files that are dropped anywhere on the page, or pasted. */
export function acceptFiles(onFiles) {
  document.addEventListener("dragover", (event) => {
    if (event.dataTransfer.types.includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", async (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    onFiles(await droppedFiles(event.dataTransfer));
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) onFiles(files);
  });
}
