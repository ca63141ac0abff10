// The explorer page: load the generator, then put the parts of the page together.

import { element, say } from "../shared/shell.js";
import { setUpAddress, stateOfAddress } from "./address.js";
import { createWorker, isFile, loadAssets } from "./assets.js";
import { Directions } from "./directions.js";
import { setUpEditor } from "./editor.js";
import { Engine } from "./engine.js";
import { setUpKeyboard } from "./keyboard.js";
import { setUpLabels } from "./labels.js";
import { Lab } from "./lab.js";
import { setUpMorph } from "./morph.js";
import { setUpNearest } from "./nearest.js";
import { setUpPad } from "./pad.js";
import { setUpPhoto } from "./photo.js";
import { parseSafetensors } from "./safetensors.js";
import { complain } from "./server.js";
import { setUpSliders } from "./sliders.js";
import { Store } from "./state.js";
import { setUpSum } from "./sums.js";
import { setUpTabs } from "./tabs.js";
import { fromText } from "./vectors.js";
import { setUpWall } from "./wall.js";

const MAX_WORKERS = 2;
// As in gan/export/page_weights.py.
const UNNAMED = /^(leading|sefa)_\d+$/;

async function start() {
  const assets = await loadAssets();
  const { metadata, tensors } = parseSafetensors(assets.weights);
  const description = JSON.parse(metadata.page);
  const engine = new Engine(description.image_size);
  const workers = Math.min(navigator.hardwareConcurrency || 1, MAX_WORKERS);
  const ready = Promise.any(Array.from({ length: workers }, () => engine.add(createWorker(), assets)));

  const directions = new Directions(readDirections(description, tensors));
  const metric = rows(tensors.metric);
  const { state, loss } = stateOfAddress(description, directions);
  const store = new Store(state);
  const lab = new Lab(engine, description, directions, metric, store);
  setUpOwnDirections(lab);

  await ready.catch((error) => { throw error.errors[0]; });
  document.getElementById("loading").hidden = true;
  document.getElementById("explorer").hidden = false;
  setUpTabs(lab);
  setUpEditor(lab);
  setUpWall(lab);
  setUpSliders(lab);
  setUpPad(lab);
  setUpMorph(lab);
  setUpSum(lab);
  setUpLabels(lab);
  if (!isFile()) {
    for (const setUp of [setUpNearest, setUpPhoto]) setUp(lab).catch(complain);
  }
  setUpKeyboard(lab);
  setUpAddress(lab);
  if (description.note) say(`The named directions cannot be used: ${description.note}`, { bad: true, seconds: 15 });
  if (loss) say(loss, { bad: true, seconds: 12 });
  window.lab = lab;
}

/** The rows of a tensor [N, M]. */
function rows({ shape: [count, size], data }) {
  return Array.from({ length: count }, (_, i) => Float64Array.from(data.subarray(i * size, (i + 1) * size)));
}

function readDirections({ directions: table }, tensors) {
  const vectors = rows(tensors.directions);
  return table.map(({ name, source, ...scores }, i) => ({ name, source, scores, kind: UNNAMED.test(name) ? "unnamed" : "named", vector: vectors[i] }));
}

/** Directions that were learnt in the page are part of its state. */
function setUpOwnDirections(lab) {
  lab.store.observe(({ own }, before) => {
    if (own === before?.own) return;
    for (const direction of lab.directions.all) if (direction.kind === "own") lab.directions.remove(direction.name);
    for (const { name, text } of own) {
      const vector = fromText(text, lab.size);
      if (vector && !lab.directions.get(name)) lab.directions.add({ name, kind: "own", vector });
    }
  });
}

start().catch((error) => {
  document.getElementById("explorer").hidden = true;
  const loading = document.getElementById("loading");
  loading.hidden = false;
  loading.replaceChildren(element("strong", { textContent: "The explorer cannot start: " }), error.message || String(error));
});
