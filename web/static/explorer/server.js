// Questions to the server about the generator of this page.

import { capitalised, request, say, withQuery } from "../shared/shell.js";

/**
 * Ask the server for something that it computes with the generator.
 * @param {import("./lab.js").Lab} lab
 * @param {string} path
 * @param {BodyInit} body
 * @param {AbortSignal} [signal] gives the question up.
 * @throws {Error} see `request`; its status is 409 if training has replaced the generator since.
 */
export function ask({ description }, path, body, signal) {
  return request(withQuery(path, { generator: description.digest }), { method: "POST", body, signal });
}

/** Show why there is no answer. */
export function complain({ message, status }) {
  if (status === 409) say(capitalised(message), { bad: true, seconds: 60, action: ["Reload", reload] });
  else say(capitalised(message), { bad: true });
}

/** Reload with the same state, without the old generator's digest: the page would warn of what was just said. */
function reload() {
  const state = new URLSearchParams(location.hash.slice(1));
  state.delete("g");
  history.replaceState(null, "", `#${state}`);
  location.reload();
}
