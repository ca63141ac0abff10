// The training page: choose a run, watch it, compare it.

import { capitalised, count, cssVariable, element, request, say, short, withQuery } from "/static/shared/shell.js";
import { Charts, COLOURS } from "./charts.js";
import { Samples } from "./samples.js";
import { Store } from "./store.js";

const LIST_MILLISECONDS = 10_000, FIRST_MILLISECONDS = 2_000; // time between looks for new runs, and for the first
const MAX_COMPARED = 4;

const find = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

let shown = null; // name of the run that is shown
let compared = []; // names of those whose curves lie over its own
let description = null; // what does not change while it trains
let listed = [];
let samplesWithoutGrid = 0; // of the shown run, when the shape of its grids was last asked for
let selection = 0; // number of the newest selection; the answer to an older one is dropped

const charts = new Charts(find("charts"), (step) => samples.goTo(step));
const samples = new Samples((step) => charts.mark(step), writeUrl);
const store = new Store(changed);
charts.onRebuild = drawCharts;

/** The server's answer; null if there is none, which a message then explains. */
async function ask(path) {
  try {
    return await request(path);
  } catch (error) {
    say(capitalised(error.message), { bad: true });
    return null;
  }
}

/** Show a run; its curves alone unless others are given. */
async function select(name, { others = [], step = null, tile = 0 } = {}) {
  const number = ++selection;
  const answer = await ask(withQuery("/api/training/run", { run: name }));
  if (!answer || number !== selection) return;
  [shown, description, compared] = [name, answer, others.filter((other) => other !== name).slice(0, MAX_COMPARED)];
  find("run-name").textContent = name;
  document.title = `${name} - Face lab`;
  samplesWithoutGrid = 0;
  samples.setRun(name, answer.grid, { step, tile });
  showSettings();
  showList();
  store.follow([shown, ...compared]);
  writeUrl();
}

function changed(name) {
  if (name === shown) {
    const { status } = store.runs.get(name);
    showStatus(status);
    showEvents(status.events);
    if (!description.grid && status.samples.length > samplesWithoutGrid) refreshGrid(status.samples.length);
    samples.update(status.samples);
  }
  drawCharts();
}

/** A run that has just begun gets its first samples, and so the shape of its grids, later. */
async function refreshGrid(sampleCount) {
  const name = shown;
  samplesWithoutGrid = sampleCount;
  const answer = await ask(withQuery("/api/training/run", { run: name }));
  if (name !== shown || !answer?.grid || description.grid) return;
  description = answer;
  samples.setRun(name, answer.grid);
  samples.update(store.runs.get(name)?.status.samples ?? []);
}

function drawCharts() {
  const runs = [shown, ...compared].filter((name) => store.runs.has(name)).map((name) => ({ name, ...store.runs.get(name) }));
  if (!description || runs[0]?.name !== shown) return;
  find("charts-none").hidden = charts.draw(description.panels, runs);
}

function showStatus(status) {
  find("run-state").textContent = status.state;
  find("run-state").classList.toggle("live", status.state === "running");
  const parts = [status.steps ? `step ${count(status.step)} of ${count(status.steps)}` : `step ${count(status.step)}`];
  if (status.state === "running" && status.images_per_second) parts.push(`${short(status.images_per_second)} images/s`);
  if (status.seconds_left !== null) parts.push(`about ${duration(status.seconds_left)} left`);
  if (status.best !== null) parts.push(`best ${status.label} ${short(status.score)} at step ${count(status.best)}`);
  find("run-status").textContent = parts.join(" · ");
  find("run-progress").hidden = !status.steps && status.seconds_left === null;
  const share = status.steps ? status.step / status.steps : Math.max(0, 1 - status.seconds_left / (60 * status.minutes));
  find("run-progress").value = Number.isFinite(share) ? share : 0; // a damaged config.json has neither steps nor minutes
}

/** A time such as "3 h 20 min", "12 min" or "40 s". */
function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function showEvents(events) {
  find("events-panel").hidden = !events.length;
  find("events").replaceChildren(
    ...events.map(({ step, text, alarm }) => {
      const button = element("button", { type: "button", textContent: `step ${count(step)}`, title: "Show its samples" });
      button.addEventListener("click", () => samples.goTo(step));
      return element("li", { className: alarm ? "alarm" : "" }, button, element("span", { textContent: text }));
    }),
  );
}

function showSettings() {
  const parts = ["settings", "data", "environment"].map((part) => {
    const rows = Object.entries(description[part]).map(([name, value]) =>
      element("tr", {}, element("th", { textContent: name, scope: "row" }), element("td", { textContent: cell(value) })),
    );
    return element("div", {}, element("h3", { textContent: part }), element("table", {}, element("tbody", {}, ...rows)));
  });
  find("settings").replaceChildren(...parts);
  for (const word of find("curves-words").querySelectorAll("[data-kind]")) word.hidden = !word.dataset.kind.split(" ").includes(description.kind);
  find("real").hidden = !description.has_real;
  if (description.has_real) find("real").querySelector("img").src = withQuery("/api/training/real", { run: shown });
}

const cell = (value) => (value === null ? "" : Array.isArray(value) ? value.join(" ") : String(value));

function showList() {
  const focused = document.activeElement?.closest?.("#run-list li")?.dataset.run;
  const wasBox = document.activeElement?.type === "checkbox";
  const order = [shown, ...compared];
  find("run-list").replaceChildren(
    ...listed.map((run) => {
      const index = order.indexOf(run.name);
      const name = element("span", { className: "name" });
      if (index >= 0 && order.length > 1) {
        const dot = element("span", { className: "dot" });
        dot.style.background = cssVariable(COLOURS[index % COLOURS.length]);
        name.append(dot);
      }
      name.append(run.name);
      const note = `${run.running ? "running, " : ""}${run.kind}, step ${count(run.step)}`;
      const button = element("button", { type: "button" }, name, element("span", { className: "note", textContent: note }));
      button.setAttribute("aria-current", run.name === shown);
      button.addEventListener("click", () => select(run.name));
      const box = element("input", { type: "checkbox", checked: compared.includes(run.name), disabled: run.name === shown, title: `Compare with ${run.name}` });
      box.setAttribute("aria-label", `Compare with ${run.name}`);
      box.addEventListener("change", () => compare(run.name, box.checked));
      const item = element("li", {}, button, box);
      item.dataset.run = run.name;
      return item;
    }),
  );
  const item = [...find("run-list").children].find((one) => one.dataset.run === focused);
  item?.querySelector(wasBox ? "input" : "button").focus();
}

function compare(name, wanted) {
  const others = compared.filter((other) => other !== name), isFull = others.length >= MAX_COMPARED;
  if (wanted && isFull) say(`At most ${MAX_COMPARED + 1} runs can be compared.`, { bad: true });
  setCompared(wanted && !isFull ? [...others, name] : others);
}

function setCompared(names) {
  compared = names;
  showList();
  store.follow([shown, ...compared]);
  drawCharts();
  writeUrl();
}

/** Keep what is shown in the URL, so that it can be reloaded and shared between windows. */
function writeUrl() {
  const step = samples.chosenStep;
  history.replaceState(null, "", withQuery(location.pathname, { run: shown, with: compared, step, tile: samples.tile || null }));
}

async function list() {
  const answer = await ask("/api/training/runs");
  if (!answer) return;
  listed = answer.runs;
  find("nothing").hidden = listed.length > 0;
  find("page").hidden = !listed.length;
  find("nothing-where").textContent = answer.output;
  if (!listed.length) return;
  const names = listed.map((run) => run.name), isListed = (name) => names.includes(name);
  if (shown !== null && !isListed(shown)) {
    say(`${shown} is no longer in ${answer.output}.`, { bad: true });
    await select(answer.shown, { others: compared.filter(isListed) });
    return;
  }
  if (shown !== null) {
    // The server refuses to stream several runs if one of them has been removed.
    if (compared.every(isListed)) showList();
    else setCompared(compared.filter(isListed));
    return;
  }
  const asked = query.get("run");
  const wanted = isListed(asked) ? asked : names.find((name) => name.endsWith(`/${asked}`));
  if (asked && !wanted) say(`There is no run ${asked} in ${answer.output}.`, { bad: true });
  const numbers = { step: query.get("step"), tile: query.get("tile") };
  await select(wanted ?? answer.shown, {
    others: query.getAll("with").filter(isListed),
    step: numbers.step && Number.isFinite(Number(numbers.step)) ? Number(numbers.step) : null,
    tile: Number.parseInt(numbers.tile, 10) || 0,
  });
}

if (matchMedia("(max-width: 999px)").matches) find("runs").open = false;
for (;;) {
  if (!document.hidden) await list();
  await new Promise((done) => setTimeout(done, listed.length ? LIST_MILLISECONDS : FIRST_MILLISECONDS));
}
