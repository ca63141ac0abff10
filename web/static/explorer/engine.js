// Pictures of latent vectors, made in workers: the most urgent first, and for each purpose only the latest.

/** Makes pictures in one or more workers. */
export class Engine {
  #idle = [];
  #queue = [];
  #jobs = new Map();
  #delivered = new Map();
  #number = 0;

  /** @param {number} side of the pictures in pixels. */
  constructor(side) {
    this.side = side;
  }

  /**
   * Start a worker; resolves when it can make pictures.
   * @param {Worker} worker
   * @param {{kernel: ArrayBuffer, weights: ArrayBuffer}} assets which are copied.
   */
  add(worker, assets) {
    return new Promise((resolve, reject) => {
      worker.onerror = (event) => reject(new Error(event.message || "the worker cannot start"));
      worker.onmessage = ({ data }) => {
        if (data.error) {
          reject(new Error(data.error));
          return;
        }
        if (data.ready) {
          resolve();
        } else {
          this.#finish(data.id, data.pixels);
        }
        this.#idle.push(worker);
        this.#work();
      };
      worker.postMessage(assets);
    });
  }

  /**
   * Make a picture.
   * @param {Float32Array} z
   * @param {{purpose?: string, urgency?: number}} [options] A newer request with the same purpose replaces an
   *   older one. Higher urgency goes first: 2 for what a hand is moving, 1 for a picture that is looked at,
   *   0 for many.
   * @returns {Promise<ImageData|null>} null if a newer request with this purpose has replaced this one.
   */
  picture(z, { purpose, urgency = 0 } = {}) {
    return new Promise((resolve) => {
      const job = { id: ++this.#number, z, purpose, urgency, resolve };
      if (purpose !== undefined) {
        const waiting = this.#queue.findIndex((other) => other.purpose === purpose);
        if (waiting >= 0) this.#queue.splice(waiting, 1)[0].resolve(null);
      }
      const place = this.#queue.findIndex((other) => other.urgency < urgency);
      this.#queue.splice(place < 0 ? this.#queue.length : place, 0, job);
      this.#work();
    });
  }

  /** Forget the waiting requests whose purpose starts with this text. */
  cancel(prefix) {
    const kept = [];
    for (const job of this.#queue) {
      if (job.purpose?.startsWith(prefix)) job.resolve(null);
      else kept.push(job);
    }
    this.#queue = kept;
  }

  #work() {
    while (this.#idle.length && this.#queue.length) {
      const job = this.#queue.shift();
      this.#jobs.set(job.id, job);
      this.#idle.pop().postMessage({ id: job.id, z: job.z });
    }
  }

  #finish(id, pixels) {
    const job = this.#jobs.get(id);
    this.#jobs.delete(id);
    // While a hand moves, a picture that is not the latest is still shown, but never after a later one.
    const late = job.purpose !== undefined && id < (this.#delivered.get(job.purpose) ?? 0);
    if (job.purpose !== undefined && !late) this.#delivered.set(job.purpose, id);
    job.resolve(late ? null : new ImageData(pixels, this.side, this.side));
  }
}
