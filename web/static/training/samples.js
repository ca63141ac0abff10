// The sample grid of any step, and one tile of it through time.

import { count, element, withQuery } from "/static/shared/shell.js";

const GAP = 2; // pixels between tiles, images.tiles.GAP
const STRIP = 24; // steps of a strip
const STRIP_POWER = 1.6; // samples change most at the start, so the strip is denser there
const FRAME_MILLISECONDS = 120;

const find = (id) => document.getElementById(id);

export class Samples {
  #run = null;
  #grid = null; // {rows, columns, size}, or null if the picture has no tiles
  #samples = []; // [step, version]
  #following = true;
  #wanted = 0; // number of the newest request for a picture; a late answer to an older one is not shown
  #step = null;
  #onceStep = null; // to show with the first list of the run's samples
  #missing = false; // whether a picture could not be loaded
  #tile = 0;
  #playing = null;
  #strip = "";

  /**
   * @param {(step: number|null) => void} onStep called with the step that is shown, null for none.
   * @param {() => void} onChange called when the step or the tile was chosen by hand.
   */
  constructor(onStep, onChange) {
    this.onStep = onStep;
    this.onChange = onChange;
    find("scrubber").addEventListener("input", () => this.#choose(Number(find("scrubber").value)));
    find("newest").addEventListener("click", () => this.follow());
    find("play").addEventListener("click", () => this.#play());
    find("tile").addEventListener("input", () => this.chooseTile(find("tile").valueAsNumber));
    find("sample-grid").addEventListener("click", (event) => this.#pick(event));
    find("sample-grid").addEventListener("keydown", (event) => this.#move(event));
  }

  /** The step that was chosen by hand; null while the newest is followed. */
  get chosenStep() { return this.#following ? null : this.#onceStep ?? this.#step; }
  get tile() { return this.#tile; }

  /** Show another run. */
  setRun(name, grid, { step = null, tile = 0 } = {}) {
    this.#stop();
    this.#onceStep = step;
    this.#run = name;
    this.#grid = grid;
    this.#samples = [];
    this.#following = step === null;
    this.#step = null;
    this.#strip = "";
    this.#wanted++; // a picture of the run before, which may still come, is not shown
    this.#tile = grid ? Math.max(0, Math.min(tile, grid.rows * grid.columns - 1)) : 0;
    find("tile").max = grid ? grid.rows * grid.columns - 1 : 0;
    find("tile").value = this.#tile;
    find("sample-image").removeAttribute("src");
    find("sample-image").alt = "";
    find("sample-step").textContent = "";
    this.onStep(null);
    find("strip").replaceChildren();
    find("strip-panel").hidden = true;
    this.#markTile();
  }

  /** Take the list of samples as it is now. The chosen step stays, wherever new ones are inserted. */
  update(samples) {
    const before = JSON.stringify(this.#samples);
    if (JSON.stringify(samples) === before && this.#step !== null && !this.#missing) return;
    this.#samples = samples;
    find("samples-none").hidden = samples.length > 0;
    find("scrubber").max = Math.max(0, samples.length - 1);
    if (!samples.length) return;
    const wanted = this.#onceStep ?? (this.#following ? null : this.#step);
    this.#onceStep = null;
    this.#show(wanted === null ? samples.length - 1 : this.#nearest(wanted));
    this.#updateStrip();
  }

  /** Show the samples nearest to a step, and stay there. */
  goTo(step) {
    if (this.#samples.length) this.#choose(this.#nearest(step));
  }

  /** Show the newest samples, and each that follows. */
  follow() {
    this.#stop();
    this.#following = true;
    this.#show(this.#samples.length - 1);
    this.onChange();
  }

  chooseTile(index) {
    if (!this.#grid || !Number.isInteger(index) || index < 0 || index >= this.#grid.rows * this.#grid.columns) return;
    this.#tile = index;
    find("tile").value = index;
    this.#markTile();
    this.#updateStrip();
    this.onChange();
  }

  #choose(index) {
    this.#stop();
    this.#following = false;
    this.#show(index);
    this.onChange();
  }

  #nearest(step) {
    let best = 0;
    this.#samples.forEach(([other], index) => {
      if (Math.abs(other - step) < Math.abs(this.#samples[best][0] - step)) best = index;
    });
    return best;
  }

  async #show(index) {
    const sample = this.#samples[index];
    if (!sample) return;
    const [step, version] = sample;
    this.#step = step;
    this.#missing = false;
    find("scrubber").value = index;
    find("scrubber").setAttribute("aria-valuetext", `step ${count(step)}`);
    find("sample-step").textContent = `step ${count(step)}`;
    find("newest").setAttribute("aria-pressed", this.#following);
    this.onStep(step);
    for (const button of find("strip").children) button.setAttribute("aria-current", Number(button.dataset.step) === step);
    const number = ++this.#wanted;
    const picture = new Image();
    picture.src = this.#url(step, version);
    const isThere = await picture.decode().then(() => true, () => false);
    if (number !== this.#wanted) return;
    if (!isThere) {
      // A rollback has removed it, or the server is restarting: it is shown again with the next list.
      this.#missing = true;
      find("sample-image").removeAttribute("src");
      find("sample-image").alt = "";
      this.#markTile();
      return;
    }
    find("sample-image").src = picture.src;
    find("sample-image").alt = `Samples at step ${count(step)}`;
    this.#markTile();
  }

  #url = (step, version) => withQuery("/api/training/sample", { run: this.#run, step, v: version });

  async #play() {
    if (this.#playing) { this.#stop(); this.onChange(); return; }
    this.#following = false;
    const last = this.#samples.length - 1;
    let index = Number(find("scrubber").value) >= last ? 0 : Number(find("scrubber").value);
    const token = (this.#playing = {});
    find("play").setAttribute("aria-pressed", "true");
    find("play").textContent = "Pause";
    while (this.#playing === token && index < this.#samples.length) {
      await Promise.all([this.#show(index), new Promise((done) => setTimeout(done, FRAME_MILLISECONDS))]);
      index += 1;
    }
    if (this.#playing === token) { this.#stop(); this.onChange(); }
  }

  #stop() {
    this.#playing = null;
    find("play").setAttribute("aria-pressed", "false");
    find("play").textContent = "Play";
  }

  #pick(event) {
    if (!this.#grid) return;
    const box = find("sample-image").getBoundingClientRect(), { rows, columns } = this.#grid;
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    this.chooseTile(Math.max(0, Math.min(row, rows - 1)) * columns + Math.max(0, Math.min(column, columns - 1)));
  }

  #move(event) {
    if (!this.#grid) return;
    if (event.key === " ") { event.preventDefault(); this.#play(); return; }
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#grid.columns, ArrowDown: this.#grid.columns };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.chooseTile(this.#tile + moves[event.key]);
  }

  #markTile() {
    const mark = find("sample-mark");
    mark.hidden = !this.#grid || !find("sample-image").getAttribute("src");
    if (mark.hidden) return;
    const { rows, columns, size } = this.#grid;
    const width = columns * (size + GAP) - GAP, height = rows * (size + GAP) - GAP;
    mark.style.left = `${(100 * (this.#tile % columns) * (size + GAP)) / width}%`;
    mark.style.top = `${(100 * Math.floor(this.#tile / columns) * (size + GAP)) / height}%`;
    mark.style.width = `${(100 * size) / width}%`;
    mark.style.height = `${(100 * size) / height}%`;
  }

  #updateStrip() {
    find("strip-panel").hidden = !this.#grid || !this.#samples.length;
    if (find("strip-panel").hidden) return;
    const last = this.#samples.length - 1, frames = Math.min(STRIP, this.#samples.length);
    const chosen = new Set(
      Array.from({ length: frames }, (_, k) => Math.round(last * (frames > 1 ? k / (frames - 1) : 1) ** (last >= STRIP ? STRIP_POWER : 1))),
    );
    const steps = [...chosen].map((index) => this.#samples[index][0]);
    const version = Math.max(...[...chosen].map((index) => this.#samples[index][1]));
    const url = withQuery("/api/training/strip", { run: this.#run, tile: this.#tile, step: steps, v: version });
    if (url === this.#strip) return;
    this.#strip = url;
    const buttons = steps.map((step, index) => {
      const tile = element("span", { className: "tile" });
      const share = this.#grid.size / (steps.length * (this.#grid.size + GAP) - GAP);
      tile.style.backgroundSize = `${100 / share}% 100%`;
      // A percentage of the space that the picture is wider than the tile.
      const offset = index * (this.#grid.size + GAP), space = (steps.length - 1) * (this.#grid.size + GAP);
      tile.style.backgroundPosition = `${space ? (100 * offset) / space : 0}% 0`;
      const button = element("button", { type: "button", title: `step ${count(step)}` }, tile, element("span", { textContent: count(step) }));
      button.dataset.step = step;
      button.setAttribute("aria-current", step === this.#step);
      button.addEventListener("click", () => this.goTo(step));
      return button;
    });
    const picture = new Image();
    picture.src = url;
    picture.decode().then(
      () => {
        if (this.#strip !== url) return;
        for (const button of buttons) button.firstChild.style.backgroundImage = `url("${picture.src}")`;
        find("strip").replaceChildren(...buttons);
      },
      () => { if (this.#strip === url) [this.#strip, this.#missing] = ["", true]; },
    );
  }
}
