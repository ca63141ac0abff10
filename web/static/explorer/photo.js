// What needs the server: a photo as a face to edit, and the training photos nearest to a face.

import { element, request, say } from "../shared/shell.js";
import { paint } from "./tiles.js";
import { toText } from "./vectors.js";

const NOTE = element("p", { className: "soft small note", textContent: "Nearest training photos. Distances are multiples of that between a photo and the most similar other one; much below 1 would be a copy." });

/**
 * @param {import("./lab.js").Lab} lab
 * @param {boolean} hasServer
 */
export function setUpPhoto(lab, hasServer) {
  if (!hasServer) return;
  setUpNearest(lab);
  setUpInversion(lab).catch((error) => say(error.message, { bad: true }));
}

function setUpNearest(lab) {
  const button = document.getElementById("nearest"), box = document.getElementById("neighbours");
  button.hidden = false;
  let number = 0;
  button.addEventListener("click", async () => {
    const mine = ++number;
    button.disabled = true;
    try {
      const { faces } = await request("/api/explorer/nearest", { method: "POST", body: JSON.stringify({ z: toText(lab.vector(lab.store.state.face)) }) });
      if (mine !== number) return;
      box.replaceChildren(NOTE.cloneNode(true), ...faces.map(({ image, distance }) =>
        element("figure", {}, element("img", { src: image, alt: "A training photo" }), element("figcaption", { textContent: distance.toFixed(2) }))));
      box.hidden = false;
    } catch (error) {
      say(error.message, { bad: true });
    }
    button.disabled = false;
  });
  lab.store.observe((state, before) => {
    if (before && state.face !== before.face) {
      number++;
      box.hidden = true;
    }
  });
}

async function setUpInversion(lab) {
  const { available } = await request("/api/explorer/photo");
  if (!available) return;
  const tab = document.getElementById("tab-photo"), panel = document.getElementById("tool-photo");
  tab.hidden = false;
  const input = element("input", { type: "file", accept: "image/*", className: "visually-hidden", id: "photo-file" });
  const status = element("p", { className: "small", role: "status" });
  const progress = element("progress", { hidden: true });
  panel.append(
    element("p", { className: "soft small", textContent: "Drop, paste or choose a photo. Its face is found, aligned like the training images, and expressed by the generator, so that the sliders move it. It stays on this machine." }),
    element("label", { className: "button", htmlFor: "photo-file" }, "Choose a photo"), input, progress, status);

  let number = 0;
  lab.openPhoto = async (file) => {
    const mine = ++number;
    lab.store.change({ tool: "photo" }, false);
    progress.hidden = false;
    status.textContent = "Looking for the face …";
    const watch = setInterval(() => showProgress(progress, status), 1000);
    try {
      const { z, image, note } = await request("/api/explorer/photo", { method: "POST", body: file });
      clearInterval(watch);
      if (mine !== number) return;
      lab.original = { base: `v${z}`, picture: await pixelsOf(image, lab.side) };
      lab.store.change({ face: { base: `v${z}`, shift: {}, locks: [] } });
      paint(document.getElementById("before"), lab.original.picture);
      lab.compare(true);
      status.textContent = note ?? "";
    } catch (error) {
      clearInterval(watch);
      if (mine !== number) return;
      status.textContent = "";
      say(error.message, { bad: true });
    }
    progress.hidden = true;
  };
  input.addEventListener("change", () => {
    if (input.files[0]) lab.openPhoto(input.files[0]);
    input.value = "";
  });
}

/** Show what the server is doing; the first photo of a generator takes minutes. */
async function showProgress(bar, status) {
  const { progress } = await request("/api/explorer/photo").catch(() => ({ progress: null }));
  if (!progress || bar.hidden) return;
  bar.value = progress.share;
  status.textContent = `${progress.task[0].toUpperCase()}${progress.task.slice(1)}: ${Math.round(100 * progress.share)}%`;
}

async function pixelsOf(address, side) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = element("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, side, side);
  return context.getImageData(0, 0, side, side);
}
