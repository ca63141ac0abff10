// What the runs have logged, kept up to date by server-sent events.

import { withQuery } from "/static/shared/shell.js";

const RETRY_MILLISECONDS = 5_000;

/**
 * Follows runs, and tells a listener what changed.
 *
 * A browser opens few connections to a server, so all runs come in one stream, and none while the page is hidden.
 */
export class Store {
  #source = null;
  #retry; // timer of the next try after the server refused the stream
  #names = [];
  #listener;

  /** @param {(name: string) => void} listener called with the run's name after each change. */
  constructor(listener) {
    this.#listener = listener;
    /** @type {Map<string, {columns: Object<string, (number|null)[]>, status: object}>} by the run's name */
    this.runs = new Map();
    document.addEventListener("visibilitychange", () => this.#connect());
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => { if (event.persisted) this.#connect(); });
  }

  /** Follow these runs instead of the previous ones. */
  follow(names) {
    this.#names = [...names];
    for (const name of this.runs.keys()) if (!names.includes(name)) this.runs.delete(name);
    this.#connect();
  }

  #close() {
    clearTimeout(this.#retry);
    this.#source?.close();
    this.#source = null;
  }

  #connect() {
    this.#close();
    if (document.hidden || !this.#names.length) return;
    this.#source = new EventSource(withQuery("/api/training/stream", { run: this.#names }));
    this.#source.onmessage = (event) => this.#receive(JSON.parse(event.data));
    // A browser tries again after a lost connection, but not after an error of the server.
    this.#source.onerror = ({ target }) => {
      if (target.readyState === EventSource.CLOSED) this.#retry = setTimeout(() => this.#connect(), RETRY_MILLISECONDS);
    };
  }

  #receive({ run, reset, columns, status }) {
    const known = this.runs.get(run);
    const kept = reset || !known ? {} : known.columns;
    this.runs.set(run, { columns: append(kept, columns), status });
    this.#listener(run);
  }
}

/** Append rows, as columns of equal length; a column that one of the two lacks is filled up with null. */
function append(before, added) {
  const old = before.step?.length ?? 0, more = added.step?.length ?? 0;
  const joined = {};
  for (const name of new Set([...Object.keys(before), ...Object.keys(added)])) {
    joined[name] = (before[name] ?? new Array(old).fill(null)).concat(added[name] ?? new Array(more).fill(null));
  }
  return joined;
}
