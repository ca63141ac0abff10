// A film from kept face to kept face.

import { download, element, say } from "../shared/shell.js";
import { encodeGif, GIF_FPS, recordVideo, VIDEO_FPS, videoType } from "./film.js";
import { canvasOf, paint } from "./tiles.js";
import { path, toText } from "./vectors.js";

const MIN_SAVED_SIDE = 192;

/** @param {import("./lab.js").Lab} lab */
export function setUpMorph(lab) {
  const { store } = lab;
  const panel = document.getElementById("tool-morph");
  const canvas = canvasOf(lab.side);
  canvas.className = "result";
  const hint = element("p", { className: "soft small" });
  const play = element("button", { type: "button", className: "primary", textContent: "Play" });
  const loop = element("input", { type: "checkbox" });
  const seconds = element("input", { type: "number", min: 0.2, max: 20, step: 0.2, value: 2 });
  const place = element("input", { type: "range", min: 0, max: 1, step: 0.001, value: 0, "aria-label": "Position in the film" });
  const gif = element("button", { type: "button", textContent: "Save GIF" });
  const video = element("button", { type: "button" });
  const progress = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress of the film" });
  const edit = element("button", { type: "button", textContent: "Edit this face" });
  panel.append(hint, canvas, place,
    element("div", { className: "row" }, play, element("label", { className: "row" }, loop, "return to the first face"),
      element("label", { className: "row" }, seconds, "seconds per face")),
    element("div", { className: "row" }, gif, video, edit), progress);
  const type = videoType();
  video.textContent = type ? `Save ${type.suffix.toUpperCase()}` : "Save MP4";
  video.hidden = !type;

  const faces = () => store.state.slots.filter(Boolean);
  const secondsEach = () => Math.min(Math.max(Number(seconds.value) || 2, 0.2), 20);
  /** The vectors of the film at a number of steps from face to face. */
  const vectors = (steps) => path(faces().map((face) => lab.vector(face)), steps, store.state.loop);
  const transitions = () => faces().length - (store.state.loop ? 0 : 1);

  const filmIsStale = lab.directions.watch(), directionsChanged = lab.directions.watch();
  let cached = { key: null, z: [] };
  const current = () => {
    const steps = Math.max(2, Math.round(VIDEO_FPS * secondsEach()));
    const key = JSON.stringify([faces(), store.state.loop, steps]);
    if (filmIsStale() || key !== cached.key) cached = { key, z: vectors(steps) };
    const { z } = cached;
    const last = store.state.loop ? z.length : z.length - 1;
    return z[Math.round(place.value * last) % z.length];
  };
  const showPlace = async () => {
    if (faces().length < 2) return;
    paint(canvas, await lab.engine.picture(current(), { purpose: "morph", urgency: 2 }));
  };

  let playing = null, busy = false; // of the loop that plays: its own token
  const stop = () => {
    playing = null;
    play.textContent = "Play";
  };
  const run = async () => {
    const token = (playing = {});
    let before = performance.now(), position = Number(place.value); // which the range input would round
    while (playing === token) {
      const now = await new Promise(requestAnimationFrame);
      const step = (now - before) / (1000 * secondsEach() * transitions());
      before = now;
      position += Math.max(step, 0);
      if (position >= 1 && store.state.loop) {
        position %= 1;
      } else if (position >= 1) {
        position = 1;
        stop();
      }
      place.value = position;
      await showPlace();
    }
  };
  play.addEventListener("click", () => {
    if (playing) { stop(); return; }
    if (!store.state.loop && Number(place.value) >= 1) place.value = 0;
    play.textContent = "Pause";
    run();
  });
  place.addEventListener("input", () => { stop(); showPlace(); });
  loop.addEventListener("change", () => store.change({ loop: loop.checked }));
  edit.addEventListener("click", () => {
    store.change({ face: { base: `v${toText(current())}`, shift: {}, locks: [] } });
  });

  const saveFilm = async (encode, fps, suffix) => {
    if (busy) return;
    busy = true;
    stop();
    progress.hidden = false;
    update();
    try {
      const z = vectors(Math.max(2, Math.round(fps * secondsEach())));
      const frames = [];
      for (const vector of z) {
        frames.push(await lab.engine.picture(vector, { urgency: 1 }));
        progress.value = frames.length / z.length / 2;
      }
      const scale = Math.max(1, Math.round(MIN_SAVED_SIDE / lab.side));
      const blob = await encode(frames, scale, (share) => { progress.value = 0.5 + share / 2; });
      download(blob, `morph.${suffix}`);
    } catch (error) {
      say(`The film cannot be saved: ${error.message}`, { bad: true });
    }
    progress.hidden = true;
    busy = false;
    update();
  };
  gif.addEventListener("click", () => saveFilm(encodeGif, GIF_FPS, "gif"));
  video.addEventListener("click", () => saveFilm(recordVideo, VIDEO_FPS, type.suffix));

  const update = () => {
    const count = faces().length;
    if (count < 2 && playing) stop();
    for (const control of [play, gif, video, edit, place]) control.disabled = count < 2 || busy;
    hint.textContent = count < 2
      ? "A film needs two or more kept faces: drag faces to the slots."
      : `From face to face through ${count} kept faces, in the order of the slots.`;
    canvas.hidden = count < 2;
  };
  store.observe((state, before) => {
    loop.checked = state.loop;
    if (state.tool !== "morph" && playing) stop();
    if (directionsChanged() || state.slots !== before.slots || state.tool !== before.tool || state.loop !== before.loop) {
      update();
      if (state.tool === "morph") showPlace();
    }
  });
}
