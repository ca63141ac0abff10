// The large face: what it shows, and keeping, saving, comparing and undoing.

import { isPicture } from "../shared/files.js";
import { capitalised, download, say } from "../shared/shell.js";
import { decodeState, describeLoss, encodeState } from "./address.js";
import { acceptFaces } from "./drag.js";
import { addText, readText } from "./png.js";
import { faceOf } from "./state.js";
import { acceptFiles, paint } from "./tiles.js";
import { keep } from "./wall.js";

const KEYWORD = "face-lab";
const byId = (id) => document.getElementById(id);

/** @param {import("./lab.js").Lab} lab */
export function setUpEditor(lab) {
  const { store } = lab;
  const canvas = byId("face"), before = byId("before"), wiper = byId("wiper"), compare = byId("compare");
  canvas.width = canvas.height = before.width = before.height = lab.side;

  const directionsChanged = lab.directions.watch();
  store.observe((state, previous) => {
    if (directionsChanged() || state.face !== previous.face) show(lab, canvas);
    if (state.face.base !== previous?.face.base) {
      // No picture: a later face's takes its place, and the photo of this one must not be painted over it.
      lab.picture(faceOf(state.face.base), { purpose: "before", urgency: 1 }).then((picture) => picture && paint(before, lab.photos.get(state.face.base) ?? picture));
    }
    const name = nameOf(lab, state);
    Object.assign(byId("face-name"), { textContent: name, title: name }); // a narrow panel cuts it off
    byId("reset").disabled = !Object.values(state.face.shift).some(Boolean) && !state.face.locks.length;
  });

  const wipe = () => {
    canvas.style.clipPath = wiper.hidden ? "" : `inset(0 0 0 ${wiper.value}%)`;
    byId("stage").style.setProperty("--wipe", `${wiper.value}%`);
  };
  const setCompare = (on) => {
    compare.setAttribute("aria-pressed", String(on));
    wiper.hidden = !on;
    if (on) wiper.value = 50;
    wipe();
  };
  wiper.addEventListener("input", wipe);
  compare.addEventListener("click", () => setCompare(wiper.hidden));
  lab.compare = setCompare;

  byId("keep").addEventListener("click", () => keep(lab, store.state.face));
  byId("reset").addEventListener("click", () => store.change({ face: faceOf(store.state.face.base) }));
  byId("save").addEventListener("click", () => save(lab).catch((error) => say(capitalised(error.message), { bad: true })));
  acceptFaces(byId("stage"), (face) => store.change({ face }));
  acceptFiles((files) => open(lab, files).catch((error) => say(`The file cannot be read: ${error.message}`, { bad: true })));
  setUpUndo(store);
  byId("show-help").addEventListener("click", () => byId("help").showModal());
}

/** Where a face comes from, in words. */
function nameOf({ photos }, { face: { base }, seed: shown }) {
  if (base.startsWith("v")) return photos.has(base) ? "photo" : "not on a wall";
  const [seed, number] = base.split(".");
  return seed === shown ? `no. ${number}` : `no. ${number}, seed ${seed}`;
}

/** Show the current face; of several requests the latest wins. */
async function show(lab, canvas) {
  paint(canvas, await lab.picture(lab.store.state.face, { purpose: "face", urgency: 2 }));
}

function setUpUndo(store) {
  const undo = byId("undo"), redo = byId("redo");
  undo.addEventListener("click", () => store.undo());
  redo.addEventListener("click", () => store.redo());
  const { onStep } = store;
  store.onStep = (state) => {
    onStep(state);
    undo.disabled = !store.canUndo;
    redo.disabled = !store.canRedo;
  };
  store.onStep(store.state);
}

async function save(lab) {
  const { state } = lab.store; // of the picture, whatever is changed before it is made
  const picture = await lab.picture(state.face);
  const canvas = document.createElement("canvas");
  paint(canvas, picture);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
  const bytes = addText(new Uint8Array(await blob.arrayBuffer()), KEYWORD, encodeState(state, lab.description.digest));
  download(new Blob([bytes], { type: "image/png" }), `face-${state.face.base.slice(0, 20)}.png`);
}

/** Go on from a saved picture; any other picture is a photo. */
async function open(lab, files) {
  for (const file of files) {
    const text = file.type === "image/png" ? readText(new Uint8Array(await file.arrayBuffer()), KEYWORD) : null;
    const read = text && decodeState(text, lab.description);
    if (read) {
      lab.store.change(read.state);
      const loss = describeLoss(read, lab.directions, "picture");
      if (loss) say(loss, { bad: true, seconds: 12 });
      else say("The page is now as it was when this picture was saved.");
      return;
    }
  }
  const pictures = files.filter(isPicture);
  if (!pictures.length) {
    say(`${files.length === 1 ? `${files[0].name.slice(0, 60)} is not a picture` : "There is no picture in what was dropped"}: drop a photo, or a PNG that was saved here.`, { bad: true });
  } else if (!lab.openPhoto) {
    say("This picture was not saved by this page: there is nothing in it to restore.", { bad: true });
  } else {
    if (pictures.length > 1) say(`Only one photo at a time: ${pictures[0].name.slice(0, 60)} is used.`);
    lab.openPhoto(pictures[0]);
  }
}
