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
  const input = element("input", { type: "file", accept: "image/*,.heic,.heif,.avif", className: "visually-hidden", id: "photo-file" });
  const status = element("p", { className: "small", role: "status" });
  const progress = element("progress", { hidden: true, "aria-label": "Progress of the photo" });
  panel.append(
    element("p", { className: "soft small", textContent: "Drop, paste or choose a photo. Its face is found, aligned like the training images, and fitted by the generator, so that the sliders can change it. The first photo for a generator takes minutes, later ones seconds. Photos are sent to explore.py, and nowhere else." }),
    element("label", { className: "button", htmlFor: "photo-file" }, "Choose a photo"), input, progress, status);

  if (lab.store.state.tool === "photo") lab.store.refresh(); // by the address, before the tab was there
  let latest = new AbortController();
  lab.openPhoto = async (file) => {
    latest.abort(); // the server then gives up the photo before
    const { signal } = (latest = new AbortController());
    lab.store.change({ tool: "photo" }, false);
    progress.hidden = false;
    progress.removeAttribute("value");
    status.textContent = "Looking for the face …";
    const watch = setInterval(() => showProgress(progress, status), 1000);
    try {
      const { z, image, note } = await ask(lab, "/api/explorer/photo", file, signal);
      const crop = await pixelsOf(image, lab.side);
      if (signal.aborted) return;
      if (lab.photos.size >= REMEMBERED_PHOTOS) lab.photos.delete(lab.photos.keys().next().value);
      lab.photos.set(`v${z}`, crop);
      lab.store.change({ face: { base: `v${z}`, shift: {}, locks: [] } });
      paint(document.getElementById("before"), crop);
      lab.compare(true);
      status.textContent = note ?? "";
    } catch (error) {
      if (signal.aborted) return;
      status.textContent = "";
      complain(error);
    } finally {
      clearInterval(watch);
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
