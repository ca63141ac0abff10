// The recogniser page: photos in, names out, people enrolled by a click.

import { capitalised, download, element, request, say, withQuery } from "/static/shared/shell.js";
import { droppedFiles, isPicture } from "/static/shared/files.js";
import { drawPhoto } from "./photo.js";
import { falseAcceptRate, nameOf, table, toCsv } from "./scores.js";

const LOOK_MILLISECONDS = 3000; // time between looks for the first source of names
const AT_ONCE = 2; // photos that are sent before an answer comes
const MAX_BYTES = 32 * 2 ** 20; // of a photo, web.security.MAX_BODY

const find = (id) => document.getElementById(id);

let sources = [], unknown = "unknown";
let source = null; // what the server says of the chosen source of names
let isSourceMissing = false; // whether the first source could not be loaded
let threshold = 0;
let asked = 0; // number of the newest answer about a source that was asked for; older ones are dropped
let camera = null;
let chosen = null; // the face in the dialog: {photo, face}
const photos = [];
const queue = [];
let sending = 0;

const nameFace = (face, names = source.names) => nameOf(face, names, threshold, unknown);
const scoreText = (score) => (score === null ? "" : source.scale === "cosine" ? `similarity ${score.toFixed(2)}` : `score ${score.toFixed(2)}`);
const page = {
  nameFace,
  scoreText,
  get unknown() { return unknown; },
  onFace: askName,
  // If the server did not answer for one photo, it did not for the others.
  onRetry: () => {
    for (const photo of photos.filter(({ canRetry }) => canRetry)) {
      Object.assign(photo, { error: "", canRetry: false });
      identify(photo);
      drawPhoto(photo, page);
    }
  },
  onWhole: (photo) => { photo.whole = true; identify(photo); },
  onRemove: (photo) => {
    cancel(photo);
    photos.splice(photos.indexOf(photo), 1);
    photo.card.remove();
    showSummary();
  },
};

// Sources of names

async function chooseSource(name) {
  const number = ++asked;
  find("source").value = name;
  find("source-note").textContent = "Loading the network …";
  isSourceMissing = false;
  for (const photo of photos) cancel(photo);
  try {
    const answer = await request(withQuery("/api/recogniser/source", { source: name }));
    if (number !== asked) return;
    takeSource(answer);
  } catch (error) {
    if (number !== asked) return;
    if (!source) {
      find("source-note").textContent = capitalised(error.message);
      isSourceMissing = true;
      for (const photo of photos.filter(({ refused }) => !refused)) {
        Object.assign(photo, { error: capitalised(error.message), canRetry: true, waiting: false });
        drawPhoto(photo, page);
      }
      showSummary();
      return;
    }
    // The one before stays in use, so the page must not show another as chosen.
    say(capitalised(error.message), { bad: true, seconds: 12 });
    find("source").value = source.name;
    takeSource(source);
  }
  photos.forEach(identify);
}

function takeSource(answer) {
  const another = answer.name !== source?.name;
  source = answer;
  const cosine = source.scale === "cosine";
  Object.assign(find("threshold"), { min: cosine ? -0.2 : 0, max: 1 });
  if (another) setThreshold(source.threshold);
  else setThreshold(threshold);
  const who = source.kind === "people" ? "The people that you enroll here: click a face." : "The classes that the network was trained on.";
  const rough = `Until you run recognize.py calibrate${cosine ? "" : " --classes"}, the bars are only a rough guide.`;
  find("source-note").textContent = source.calibrated ? who : `${who} ${rough}`;
  find("people-panel").hidden = source.kind !== "people";
  showPeople();
}

function setThreshold(value) {
  threshold = value;
  find("threshold").value = value;
  find("threshold-value").textContent = value.toFixed(3);
  find("threshold-keep").disabled = Math.abs(value - source.threshold) < 1e-9;
  const rate = falseAcceptRate(source, value);
  if (rate === null) {
    const all = value <= Number(find("threshold").min) ? "At this threshold every face gets a name, however unlikely. " : "";
    find("threshold-rate").textContent = `${all}The share of strangers who get a name is not known before calibration.`;
  }
  else if (rate === 0) find("threshold-rate").textContent = `None of ${source.strangers.toLocaleString("en")} strangers got a name.`;
  else find("threshold-rate").textContent = `False-accept rate ${percent(rate)}: the share of strangers who get a name, measured on a set of ${source.strangers.toLocaleString("en")}.`;
  drawAll();
}

const percent = (share) => (share >= 0.0995 ? `${Math.round(100 * share)}%` : `${(100 * share).toPrecision(2)}%`);

async function keepThreshold() {
  await change("threshold", { value: threshold }, `Threshold ${threshold.toFixed(3)} is kept.`);
}

// People

function showPeople() {
  const people = Object.entries(source.people);
  find("people-none").hidden = people.length > 0;
  find("known-names").replaceChildren(...people.map(([name]) => element("option", { value: name })));
  find("people").replaceChildren(...people.map(([name, faces]) => personRow(name, faces)));
}

function personRow(name, faces) {
  const rename = element("button", { type: "button", className: "quiet", textContent: "Rename" });
  rename.setAttribute("aria-label", `Rename ${name}`);
  const remove = element("button", { type: "button", className: "quiet" });
  let isAsked = false; // whether the next click confirms
  const setAsked = (value) => {
    isAsked = value;
    remove.textContent = value ? "Confirm" : "Remove";
    remove.setAttribute("aria-label", `${value ? "Confirm: remove" : "Remove"} ${name}`);
  };
  setAsked(false);
  const unit = element("span", { className: "visually-hidden", textContent: faces === 1 ? " enrolled face" : " enrolled faces" });
  const row = element("li", {}, element("span", { className: "name", textContent: name }), element("span", { className: "small soft", title: "enrolled faces" }, String(faces), unit), rename, remove);
  rename.addEventListener("click", () => {
    const input = element("input", { type: "text", value: name, maxLength: 200 });
    input.setAttribute("aria-label", `New name of ${name}`);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        const again = personRow(name, faces);
        row.replaceWith(again);
        again.querySelector("button").focus();
      }
      if (event.key === "Enter" && input.value.trim()) change("rename", { name, new: input.value }, `${name} is now ${input.value.trim()}.`);
    });
    row.replaceChildren(input);
    input.select();
  });
  remove.addEventListener("click", () => {
    if (isAsked) { change("remove", { name }, `${name} was removed.`); return; }
    setAsked(true);
    setTimeout(() => setAsked(false), 4000);
  });
  return row;
}

/** Change the gallery or the threshold, and name all faces again. */
async function change(what, parameters, message, body = undefined) {
  const number = ++asked;
  try {
    const answer = await request(withQuery(`/api/recogniser/${what}`, { source: source.name, ...parameters }), { method: "POST", body });
    if (number !== asked) return;
    takeSource(answer);
    // A source that was being loaded is given up, and with it the questions for its names.
    find("source").value = source.name;
    if (what === "threshold") setThreshold(answer.threshold);
    photos.filter(({ waiting }) => what !== "threshold" || waiting).forEach(identify);
    say(message);
  } catch (error) {
    say(capitalised(error.message), { bad: true });
    if (number !== asked) return;
    find("source").value = source.name;
    photos.filter(({ waiting }) => waiting).forEach(identify);
  }
}

function askName(photo, index) {
  const face = photo.result.faces[index], { name, known } = nameFace(face, photo.result.names);
  chosen = { photo, face };
  find("enroll-crop").src = face.crop;
  find("enroll-name").value = known ? name : "";
  find("enroll-note").textContent = source.kind === "people" ? "" : "The classifier's classes stay as they are: the face is added to the people enrolled with it.";
  find("enroll").showModal();
  find("enroll-name").select();
}

async function enroll() {
  const name = find("enroll-name").value.trim(), { face } = chosen;
  if (!name) return;
  find("enroll").close();
  if (source.kind !== "people") {
    const people = sources.find((one) => one.name === source.name.replace(/^classes/, "people"));
    await chooseSource(people.name);
    if (source.kind !== "people") return; // a message says why it cannot be used
  }
  await change("enroll", { name }, `${name} is enrolled.`, bytesOf(face.crop));
}

/** The bytes of a data URL. */
function bytesOf(url) {
  return Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (letter) => letter.charCodeAt(0));
}

// Photos

function addPhotos(blobs) {
  const added = [...blobs].map((blob) => {
    const photo = { name: blob.name || "photo.png", blob, result: null, error: "", waiting: false, request: 0, whole: false, abort: null };
    photo.card = element("article", { className: "panel photo" });
    if (blob.size > MAX_BYTES) photo.error = `The file is larger than ${MAX_BYTES / 2 ** 20} MiB.`;
    if (blob.name && !isPicture(blob)) photo.error = "This is not a picture.";
    photo.refused = photo.error !== "";
    return photo;
  });
  // The newest on top, in the order in which they came.
  photos.unshift(...added);
  find("photos").prepend(...added.map((photo) => photo.card));
  for (const photo of added) {
    drawPhoto(photo, page);
    identify(photo);
  }
  showSummary();
}

/** Ask for the faces of a photo. Only the answer to the newest request counts. */
function identify(photo) {
  if (photo.refused) return;
  setBusy(photo, true);
  showSummary();
  if (isSourceMissing) chooseSource(find("source").value);
  if (!source) return; // the photo is sent once there is one
  cancel(photo);
  queue.push({ photo, number: photo.request });
  send();
}

/** Drop the answers that a photo still waits for. */
function cancel(photo) {
  photo.request += 1;
  photo.abort?.abort();
  photo.abort = null;
}

function setBusy(photo, busy) {
  photo.waiting = busy;
  photo.card.setAttribute("aria-busy", busy);
}

async function send() {
  if (sending >= AT_ONCE) return;
  const next = queue.shift();
  if (!next) return;
  const { photo, number } = next;
  if (number !== photo.request) { send(); return; }
  sending += 1;
  photo.abort = new AbortController();
  try {
    const url = withQuery("/api/recogniser/faces", { source: source.name, whole: photo.whole ? 1 : null });
    const result = await request(url, { method: "POST", body: photo.blob, signal: photo.abort.signal });
    if (number === photo.request) Object.assign(photo, { result, error: "", canRetry: false, waiting: false });
  } catch (error) {
    if (number === photo.request) Object.assign(photo, { result: null, error: capitalised(error.message), canRetry: !(error.status < 500), waiting: false });
  }
  sending -= 1;
  if (number === photo.request) drawPhoto(photo, page);
  showSummary();
  send();
}

function drawAll() {
  for (const photo of photos) if (photo.result) drawPhoto(photo, page);
  showSummary();
}

function showSummary() {
  find("results-bar").hidden = !photos.length;
  const faces = photos.flatMap(({ result }) => (result ? result.faces.map((face) => nameFace(face, result.names)) : []));
  const known = faces.filter((face) => face.known).length, waiting = photos.filter((photo) => photo.waiting).length;
  const parts = [`${faces.length} ${faces.length === 1 ? "face" : "faces"} in ${photos.length} ${photos.length === 1 ? "photo" : "photos"}`, `${known} named`];
  if (waiting) parts.push(`${waiting} to do`);
  find("summary").textContent = parts.join(", ");
  for (const id of ["save-csv", "save-json"]) find(id).disabled = !photos.some(({ result }) => result);
}

function results() {
  const ready = photos.filter(({ result }) => result);
  return { ready, rows: table(ready.map(({ name, result }) => ({ file: name, faces: result.faces.map((face) => ({ ...face, names: result.names })) })), (face) => nameFace(face, face.names)) };
}

function saveJson() {
  const { ready, rows } = results();
  const faces = ready.flatMap(({ result }) => result.faces.map((face) => Object.fromEntries([...result.names, unknown].map((name, index) => [name, face.probabilities[index]]))));
  const values = { names_from: source.label, threshold, false_accept_rate: falseAcceptRate(source, threshold), faces: rows.map((row, index) => ({ ...row, probabilities: faces[index] })) };
  download(new Blob([`${JSON.stringify(values, null, 2)}\n`], { type: "application/json" }), "recognized.json");
}

// The camera

async function openCamera() {
  if (!navigator.mediaDevices) {
    say("Browsers allow the camera only at 127.0.0.1 or over HTTPS: open this page on the machine of explore.py.", { bad: true, seconds: 12 });
    return;
  }
  find("camera").disabled = true; // a second stream would go on after the camera is closed
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 1280 } } });
  } catch (error) {
    find("camera").disabled = false;
    say(`The camera cannot be used: ${error.message}`, { bad: true });
    return;
  }
  find("video").srcObject = camera;
  find("camera-panel").hidden = false;
  find("snap").focus();
  find("video").play().catch(() => {}); // it was closed at once
}

function closeCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  find("video").srcObject = null;
  find("camera-panel").hidden = true;
  find("camera").disabled = false;
  find("camera").focus();
}

function takePhoto() {
  const video = find("video");
  if (!video.videoWidth) return; // it shows nothing yet
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => addPhotos([new File([blob], `camera-${photos.length + 1}.png`, { type: "image/png" })]), "image/png");
}

// What a person does

find("source").addEventListener("change", () => chooseSource(find("source").value));
find("threshold").addEventListener("input", () => source && setThreshold(find("threshold").valueAsNumber));
find("threshold-keep").addEventListener("click", keepThreshold);
find("files").addEventListener("change", () => { addPhotos(find("files").files); find("files").value = ""; });
find("camera").addEventListener("click", openCamera);
find("camera-stop").addEventListener("click", closeCamera);
find("snap").addEventListener("click", takePhoto);
find("clear").addEventListener("click", () => { for (const photo of [...photos]) page.onRemove(photo); });
find("save-csv").addEventListener("click", () => download(new Blob([toCsv(results().rows)], { type: "text/csv" }), "recognized.csv"));
find("save-json").addEventListener("click", saveJson);
find("enroll-form").addEventListener("submit", (event) => { event.preventDefault(); enroll(); });
find("enroll-cancel").addEventListener("click", () => find("enroll").close());
addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) { event.preventDefault(); addPhotos(files); }
});
addEventListener("dragover", (event) => { event.preventDefault(); find("drop").classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) find("drop").classList.remove("over"); });
addEventListener("drop", async (event) => {
  event.preventDefault();
  find("drop").classList.remove("over");
  const isEmpty = !event.dataTransfer.items.length && !event.dataTransfer.files.length;
  const files = await droppedFiles(event.dataTransfer);
  if (files.length) addPhotos(files);
  else if (!isEmpty) say("There is no photo in what was dropped.", { bad: true });
});

for (;;) {
  if (!document.hidden) await start();
  if (sources.length) break;
  await new Promise((done) => setTimeout(done, LOOK_MILLISECONDS));
}

/** Look for sources of names, and begin with the first. */
async function start() {
  let answer;
  try {
    answer = await request("/api/recogniser/sources");
  } catch (error) {
    find("failure").textContent = capitalised(error.message);
    find("failure").hidden = false;
    return;
  }
  ({ sources, unknown } = answer);
  find("failure").hidden = true;
  find("nothing-where").textContent = answer.output;
  find("nothing").hidden = sources.length > 0;
  find("page").hidden = !sources.length;
  find("source").replaceChildren(...sources.map((one) => element("option", { value: one.name, textContent: one.label })));
  if (sources.length) await chooseSource(sources[0].name);
}
