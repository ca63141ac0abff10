// A photo as a face to edit; needs the server.

import { element, request } from "../shared/shell.js";
import { ask, complain } from "./server.js";
import { paint } from "./tiles.js";

const REMEMBERED_PHOTOS = 20;

/** @param {import("./lab.js").Lab} lab */
export async function setUpPhoto(lab) {
  const { available } = await request("/api/explorer/photo");
  if (!available) return;
  const tab = document.getElementById("tab-photo"), panel = document.getElementById("tool-photo");
  tab.hidden = false;
  const input = element("input", { type: "file", accept: "image/*", className: "visually-hidden", id: "photo-file" });
  const status = element("p", { className: "small", role: "status" });
  const progress = element("progress", { hidden: true });
  panel.append(
    element("p", { className: "soft small", textContent: "Drop, paste or choose a photo. Its face is found, aligned like the training images, and expressed by the generator, so that the sliders move it. The first photo for a generator takes minutes, later ones seconds. It stays on this machine." }),
    element("label", { className: "button", htmlFor: "photo-file" }, "Choose a photo"), input, progress, status);

  let number = 0;
  lab.openPhoto = async (file) => {
    const mine = ++number;
    lab.store.change({ tool: "photo" }, false);
    progress.hidden = false;
    status.textContent = "Looking for the face …";
    const watch = setInterval(() => showProgress(progress, status), 1000);
    try {
      const { z, image, note } = await ask(lab, "/api/explorer/photo", file);
      clearInterval(watch);
      if (mine !== number) return;
      if (lab.photos.size >= REMEMBERED_PHOTOS) lab.photos.delete(lab.photos.keys().next().value);
      lab.photos.set(`v${z}`, await pixelsOf(image, lab.side));
      lab.store.change({ face: { base: `v${z}`, shift: {}, locks: [] } });
      paint(document.getElementById("before"), lab.photos.get(`v${z}`));
      lab.compare(true);
      status.textContent = note ?? "";
    } catch (error) {
      clearInterval(watch);
      if (mine !== number) return;
      status.textContent = "";
      complain(error);
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

async function pixelsOf(url, side) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = element("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, side, side);
  return context.getImageData(0, 0, side, side);
}
