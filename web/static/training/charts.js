// Curves of one run, or of several over one another, with flags at the best step and at alarms.

import uPlot from "/static/vendor/uplot/uPlot.min.js";
import { count, cssVariable, element, short } from "/static/shared/shell.js";

const HEIGHT = 170;
const WINDOWS = 30; // the window of the running mean is a curve's length over this, as in plot_run.py
const SMOOTH_FROM = 60, POINTS_UP_TO = 30; // values of a curve
const LOGARITHMIC = ["gradient norm"];
const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];
export const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5"];

export class Charts {
  #container;
  #onStep;
  #charts = [];
  #shown = "";
  #sync = uPlot.sync("steps");
  #zoomed = false; // all panels at once, as uPlot tells the others of a zoom and of the double click that ends it
  #marked = null;

  /**
   * @param {HTMLElement} container
   * @param {(step: number) => void} onStep called with the step that was clicked.
   */
  constructor(container, onStep) {
    this.#container = container;
    this.#onStep = onStep;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.#shown = ""; this.onRebuild?.(); });
    new ResizeObserver(() => this.#resize()).observe(container);
  }

  /**
   * Draw the panels.
   * @param {{title: string, curves: {metric: string, label: string}[]}[]} panels
   * @param {{name: string, columns: object, status: object}[]} runs the first is the one that is shown.
   * @returns {boolean} whether there is anything to draw.
   */
  draw(panels, runs) {
    const drawn = panels
      .map((panel) => ({ panel, ...makeSeries(panel, runs) }))
      .filter(({ series }) => series.length);
    const shape = JSON.stringify(drawn.map(({ panel, series }) => [panel.title, series.map((one) => one.key)]));
    if (shape !== this.#shown) this.#build(drawn);
    this.#shown = shape;
    const { best, events = [], metric } = runs[0]?.status ?? {};
    drawn.forEach(({ panel, data }, index) => {
      const chart = this.#charts[index];
      chart.flags = [
        ...events.filter((event) => event.alarm).map((event) => ({ step: event.step, text: "alarm", colour: "--bad" })),
        ...(best == null ? [] : [{ step: best, text: panel.curves.some((curve) => curve.metric === metric) ? "best" : "", colour: "--good" }]),
      ];
      chart.plot.setData(data, !this.#zoomed);
      if (this.#zoomed) chart.plot.redraw();
    });
    return drawn.length > 0;
  }

  /** Mark the step whose samples are shown; null for none. */
  mark(step) {
    this.#marked = step;
    for (const { plot } of this.#charts) plot.redraw(false);
  }

  #build(drawn) {
    for (const { plot } of this.#charts) plot.destroy();
    this.#container.replaceChildren();
    this.#zoomed = false;
    this.#charts = drawn.map(({ panel, series, data }) => {
      const holder = element("div", { className: "chart" }, element("h3", { textContent: panel.title }));
      this.#container.append(holder);
      const chart = { holder, flags: [], plot: null };
      chart.plot = new uPlot(this.#options(panel, series, chart), data, holder);
      chart.plot.over.addEventListener("dblclick", () => { this.#zoomed = false; });
      this.#followClicks(chart.plot);
      return chart;
    });
    this.#resize();
  }

  #options(panel, series, chart) {
    const ink = cssVariable("--soft"), line = cssVariable("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 }, font: "11px system-ui, sans-serif" };
    return {
      width: 320,
      height: HEIGHT,
      cursor: { sync: { key: this.#sync.key }, drag: { x: true, y: false }, points: { size: 6 } },
      legend: { live: true, isolate: true },
      scales: {
        x: { time: false },
        y: LOGARITHMIC.includes(panel.title) ? { distr: 3 } : {},
      },
      axes: [
        { ...axis, size: 28, values: (_, ticks) => ticks.map((tick) => (tick >= 10_000 ? `${tick / 1000}k` : count(tick))) },
        { ...axis, size: 46 },
      ],
      series: [
        { label: "step", value: (_, step) => (step == null ? "-" : count(step)) },
        ...series.map(({ label, colour, pale, dash, points }) => ({
          label,
          stroke: pale ? `${cssVariable(colour)}55` : cssVariable(colour),
          width: pale ? 1 : 1.75,
          dash,
          spanGaps: true,
          points: { show: points, size: 5 },
          value: (_, value) => (value == null ? "-" : short(value)),
        })),
      ],
      hooks: {
        draw: [(plot) => this.#drawFlags(plot, chart.flags)],
        setSelect: [(plot) => { if (plot.select.width > 0) this.#zoomed = true; }],
        // The legend of a pale curve repeats that of its running mean.
        ready: [(plot) => series.forEach(({ pale }, index) => { if (pale) plot.root.querySelectorAll(".u-series")[index + 1].hidden = true; })],
      },
    };
  }

  #drawFlags(plot, flags) {
    const { ctx, bbox } = plot, ratio = devicePixelRatio;
    const all = this.#marked == null ? flags : [{ step: this.#marked, text: "", colour: "--soft" }, ...flags];
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    [ctx.textAlign, ctx.textBaseline] = ["left", "alphabetic"]; // uPlot leaves its own
    const height = 15 * ratio, rows = []; // right end of the last flag in each row
    const shown = all
      .map((flag) => ({ ...flag, x: Math.round(plot.valToPos(flag.step, "x", true)) + 0.5 }))
      .filter(({ x }) => x >= bbox.left - ratio && x <= bbox.left + bbox.width + ratio)
      .sort((one, other) => one.x - other.x);
    for (const { x, colour } of shown) {
      ctx.strokeStyle = cssVariable(colour);
      ctx.lineWidth = ratio;
      ctx.setLineDash(colour === "--soft" ? [] : [3 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    // The flags cover all lines, but not one another: one that would goes to a lower row.
    for (const { x, text, colour } of shown) {
      if (!text) continue;
      const width = ctx.measureText(text).width + 8 * ratio;
      // It points inwards at the right end.
      const left = x + width > bbox.left + bbox.width ? x - width : x;
      const free = rows.findIndex((end) => end <= left), row = free < 0 ? rows.length : free;
      rows[row] = left + width;
      const top = bbox.top + (row % Math.max(1, Math.floor(bbox.height / height))) * height;
      ctx.fillStyle = cssVariable(colour);
      ctx.fillRect(left, top, width, height);
      ctx.fillStyle = cssVariable("--surface");
      ctx.fillText(text, left + 4 * ratio, top + 11 * ratio);
    }
    ctx.restore();
  }

  #followClicks(plot) {
    let pressedAt = null;
    plot.over.addEventListener("pointerdown", (event) => { pressedAt = event.clientX; });
    plot.over.addEventListener("click", (event) => {
      if (pressedAt === null || Math.abs(event.clientX - pressedAt) > 3) return; // it was a zoom
      this.#onStep(plot.posToVal(event.clientX - plot.over.getBoundingClientRect().left, "x"));
    });
  }

  #resize() {
    for (const { plot, holder } of this.#charts) {
      const width = Math.floor(holder.clientWidth);
      if (width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }
}

/** A panel's series and uPlot's data: of one run with pale values below running means, of several with the means alone. */
function makeSeries(panel, runs) {
  const series = [], tables = [];
  const last = Math.max(...runs.map(({ columns }) => columns.step?.at(-1) ?? 0));
  const names = shortNames(runs.map(({ name }) => name));
  runs.forEach(({ name, columns }, runIndex) => {
    panel.curves.forEach(({ metric, label }, curveIndex) => {
      const [steps, values] = points(columns, metric, LOGARITHMIC.includes(panel.title));
      if (!values.length) return;
      const several = runs.length > 1;
      const look = {
        label: several ? `${label} ${names[runIndex]}` : label,
        colour: COLOURS[(several ? runIndex : curveIndex) % COLOURS.length],
        dash: several ? DASHES[curveIndex % DASHES.length] : [],
        points: values.length < POINTS_UP_TO,
      };
      const smooth = values.length >= SMOOTH_FROM;
      if (smooth && !several) {
        series.push({ ...look, pale: true, key: `${metric} raw ${name}` });
        tables.push([steps, values]);
      }
      series.push({ ...look, key: `${metric} ${smooth} ${name}` });
      tables.push(smooth ? runningMean(steps, values) : [steps, values]);
    });
  });
  if (!series.length) return { series, data: [[]] };
  // All panels have the same range of steps.
  const [steps, , ...values] = uPlot.join([[[0, last], [null, null]], ...tables]);
  return { series, data: [steps, ...values] };
}

/** The numbers of runs, such as 0007, or their names if two have the same number. */
function shortNames(names) {
  const numbers = names.map((name) => name.split("/").at(-1).match(/^\d+/)?.[0] ?? name);
  return new Set(numbers).size === names.length ? numbers : names;
}

/** The steps and values of a metric where it has one. */
function points(columns, metric, positive) {
  const steps = [], values = [];
  (columns[metric] ?? []).forEach((value, index) => {
    if (value === null || (positive && value <= 0)) return;
    steps.push(columns.step[index]);
    values.push(value);
  });
  return [steps, values];
}

/** Means over windows, each at the centre of its window. */
function runningMean(steps, values) {
  const width = Math.max(1, Math.floor(values.length / WINDOWS));
  const means = [];
  let sum = 0;
  values.forEach((value, index) => {
    sum += value;
    if (index >= width) sum -= values[index - width];
    if (index >= width - 1) means.push(sum / width);
  });
  const first = Math.floor(width / 2);
  return [steps.slice(first, first + means.length), means];
}
