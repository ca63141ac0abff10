// What all pages share: requests, messages, elements.

/**
 * Request bytes from this server.
 * @param {string} path such as "/api/training/runs".
 * @param {RequestInit} [options]
 * @returns {Promise<ArrayBuffer>}
 * @throws {Error} with the server's message for the user, and its `status`; or "AbortError".
 */
export async function requestBytes(path, options) {
  let response, bytes;
  try {
    response = await fetch(path, options);
    bytes = await response.arrayBuffer();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: is explore.py still running?");
  }
  if (response.ok) return bytes;
  let reason = new TextDecoder().decode(bytes).trim();
  try { reason = JSON.parse(reason).error; } catch { /* it is plain text */ }
  throw Object.assign(new Error(reason || `the server answered ${response.status}`), { status: response.status });
}

/** Request JSON from this server; see `requestBytes`. */
export async function request(path, options) {
  return JSON.parse(new TextDecoder().decode(await requestBytes(path, options)));
}

/** The path with query parameters; an array gives a parameter for each of its values. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null) query.append(name, one);
  }
  return `${path}?${query}`;
}

/** A message of the server as a sentence; a path at its start, such as outputs/people.npz, stays as it is. */
export const capitalised = (text) => text.replace(/^[a-z]+(?=[\s,:;])/, (word) => word[0].toUpperCase() + word.slice(1)) + (/[.?!]$/.test(text) ? "" : ".");

let messageTimer;

/**
 * Show a message at the bottom for some seconds. Screen readers read it too, a bad one at once.
 * @param {string} text
 * @param {{bad?: boolean, seconds?: number, action?: [string, function(): void]}} [options] `action` is a button
 *   in the message: its text and what it does.
 */
export function say(text, { bad = false, seconds = 5, action } = {}) {
  let box = document.querySelector(".message");
  if (!box) {
    box = element("div");
    document.body.append(box);
  }
  box.className = bad ? "message bad" : "message";
  box.setAttribute("role", bad ? "alert" : "status");
  box.replaceChildren(text);
  if (action) {
    const [label, onClick] = action;
    const button = element("button", { type: "button", textContent: label });
    button.addEventListener("click", onClick);
    box.append(button);
  }
  box.hidden = false;
  clearTimeout(messageTimer);
  messageTimer = setTimeout(() => { box.hidden = true; }, 1000 * seconds);
}

/**
 * Create an element.
 * @param {string} name of the tag.
 * @param {object} properties such as className and textContent; others, such as role and data-x, are attributes.
 * @param {...(Node|string)} children
 */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** Save a blob as a file. */
export function download(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The value of a CSS variable, such as "--accent". */
export const cssVariable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A number with separators, such as 12,345. */
export const count = (value) => Number(value).toLocaleString("en");

/** A number with three digits that count, such as 0.0123 or 12,300. */
export function short(value) {
  const text = value.toPrecision(3);
  return text.includes("e+") ? count(text) : text;
}
