// A photo's card: the picture with boxes, and each face with its name and bars.

import { download, element, say } from "/static/shared/shell.js";
import { bars } from "./scores.js";

/**
 * @typedef {object} Photo
 * @property {string} name of the file.
 * @property {Blob} blob
 * @property {object|null} result what the server answered.
 * @property {string} error why there is no result.
 * @property {boolean} refused whether it is not even sent.
 * @property {boolean} canRetry whether another try may have one: the server did not answer.
 * @property {HTMLElement} card
 */

/**
 * Draw a photo's card again.
 * @param {Photo} photo
 * @param {{nameFace: Function, unknown: string, onFace: Function, onRetry: Function, onWhole: Function, onRemove: Function}} page
 */
export function drawPhoto(photo, page) {
  const { card, result } = photo;
  card.setAttribute("aria-busy", photo.waiting);
  const tools = element("div", { className: "row" });
  if (result?.faces.length) tools.append(button("Save picture", () => savePicture(photo, page.nameFace).catch(({ message }) => say(`The picture cannot be saved: ${message}`, { bad: true }))));
  tools.append(button("Remove", () => page.onRemove(photo), "quiet"));
  const head = element("header", {}, element("h2", { textContent: photo.name }), tools);
  if (!result) {
    card.replaceChildren(head, element("p", { className: "soft", textContent: photo.error || "Looking for faces …" }));
    if (photo.canRetry) card.append(element("div", {}, button("Try again", page.onRetry)));
    return;
  }
  const image = element("img", { src: result.preview, alt: photo.name, width: result.width, height: result.height });
  const frame = element("div", { className: "frame" }, image);
  const list = element("ol", { className: "faces" });
  result.faces.forEach((face, index) => {
    const named = page.nameFace(face, result.names);
    frame.append(boxOf(face, named, result, () => page.onFace(photo, index)));
    list.append(rowOf(face, named, result, page, () => page.onFace(photo, index)));
  });
  const side = result.faces.length
    ? list
    : element("div", { className: "stack" }, element("p", { textContent: "No face found." }), button("Take the centre as the face", () => page.onWhole(photo)));
  card.replaceChildren(head, frame, side);
}

function button(textContent, onClick, className = "") {
  const made = element("button", { type: "button", textContent, className });
  made.addEventListener("click", onClick);
  return made;
}

function boxOf(face, { name, known }, { width, height }, onClick) {
  const [left, top, right, bottom] = face.box;
  const box = element("button", { type: "button", className: known ? "" : "unknown", title: "Give this face a name", "aria-label": `${name}: give this face a name` }, element("span", { textContent: name }));
  if (top < 0.06 * height) box.classList.add("top");
  Object.assign(box.style, {
    left: `${(100 * left) / width}%`,
    top: `${(100 * top) / height}%`,
    width: `${(100 * (right - left)) / width}%`,
    height: `${(100 * (bottom - top)) / height}%`,
  });
  box.addEventListener("click", onClick);
  return box;
}

function rowOf(face, { name, score }, { names }, page, onClick) {
  const crop = element("button", { type: "button", className: "crop", title: "Give this face a name", "aria-label": `${name}: give this face a name` }, element("img", { src: face.crop, alt: "" }));
  crop.addEventListener("click", onClick);
  const values = element("dl", { className: "bars" });
  for (const { label, share, unknown } of bars(face, names, page.unknown)) {
    const fill = element("i");
    fill.style.width = `${100 * share}%`;
    values.append(
      element("dt", { textContent: label, title: label }),
      element("span", { className: unknown ? "bar unknown" : "bar" }, fill),
      element("dd", { textContent: `${(100 * share).toFixed(share > 0.995 || share < 0.0005 ? 0 : 1)}%` }),
    );
  }
  const title = element("p", { className: "row" }, element("span", { className: "name", textContent: name }), element("span", { className: "small soft", textContent: page.scoreText(score) }));
  return element("li", {}, crop, element("div", {}, title, values));
}

/** Save the photo, in its own size, with boxes and names. */
async function savePicture(photo, nameFace) {
  const { result } = photo;
  // A format that the browser does not know, such as HEIC, is saved as the page shows it.
  const picture = await createImageBitmap(photo.blob, { imageOrientation: "from-image" }).catch(() => loadImage(result.preview));
  const canvas = element("canvas", { width: picture.width, height: picture.height });
  const pen = canvas.getContext("2d"), scale = picture.width / result.width;
  pen.drawImage(picture, 0, 0);
  const size = Math.max(12, Math.round(Math.max(picture.width, picture.height) / 50));
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.lineWidth = Math.max(1, size / 8);
  for (const face of result.faces) {
    const [left, top, right, bottom] = face.box.map((edge) => edge * scale);
    const { name, score } = nameFace(face, result.names);
    const text = score === null ? name : `${name} ${score.toFixed(2)}`;
    pen.strokeStyle = "#ffd84a";
    pen.strokeRect(left, top, right - left, bottom - top);
    const x = Math.max(0, Math.min(left, picture.width - pen.measureText(text).width));
    const y = top > 1.4 * size ? top - 0.4 * size : bottom + 1.1 * size;
    pen.strokeStyle = "black";
    pen.lineJoin = "round";
    pen.strokeText(text, x, y);
    pen.fillStyle = "white";
    pen.fillText(text, x, y);
  }
  picture.close?.(); // the memory of a bitmap; an image has no such method
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  if (!blob) throw new Error("it is too large for this browser");
  download(blob, `${photo.name.replace(/\.[^.]*$/, "")}-named.png`);
}

function loadImage(url) {
  const image = new Image();
  image.src = url;
  return image.decode().then(() => image);
}
