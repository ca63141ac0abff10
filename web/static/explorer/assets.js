// What the page computes with: from the server, or from the page itself if export.py wrote it as one file.

import { requestBytes } from "../shared/shell.js";

const embedded = (id) => document.getElementById(id)?.textContent;

/** Whether this page is a file of export.py, which has no server. */
export const isFile = () => embedded("weights") !== undefined;

/**
 * Load the kernel and the generator.
 * @returns {Promise<{kernel: ArrayBuffer, weights: ArrayBuffer}>}
 * @throws {Error} with a message for the user.
 */
export async function loadAssets() {
  if (isFile()) return { kernel: decodeBase64(embedded("kernel")), weights: decodeBase64(embedded("weights")) };
  const [kernel, weights] = await Promise.all(["/static/explorer/kernel/generator.wasm", "/api/explorer/weights"].map((path) => requestBytes(path)));
  return { kernel, weights };
}

/** A worker with worker.js. */
export function createWorker() {
  if (!isFile()) return new Worker("/static/explorer/worker.js", { type: "module" });
  // A page from disk may not load a script from disk, but may run one from memory.
  return new Worker(URL.createObjectURL(new Blob([embedded("worker")], { type: "text/javascript" })));
}

function decodeBase64(text) {
  const binary = atob(text.trim());
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes.buffer;
}
