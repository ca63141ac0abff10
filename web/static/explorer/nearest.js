// The training photos nearest to the face; needs the server.

import { element, request, say } from "../shared/shell.js";
import { toText } from "./vectors.js";

const NOTE = element("p", { className: "soft small note", textContent: "Nearest training photos. Distances are multiples of that between a photo and the most similar other one; much below 1 would be a copy." });

/** @param {import("./lab.js").Lab} lab */
export function setUpNearest(lab) {
  const button = document.getElementById("nearest"), box = document.getElementById("neighbours");
  button.hidden = false;
  let number = 0;
  button.addEventListener("click", async () => {
    const mine = ++number;
    button.disabled = true;
    try {
      const { faces } = await request("/api/explorer/nearest", { method: "POST", body: JSON.stringify({ z: toText(lab.vector(lab.store.state.face)) }) });
      if (mine !== number) return;
      box.replaceChildren(NOTE.cloneNode(true), ...faces.map(({ image, distance }) =>
        element("figure", {}, element("img", { src: image, alt: "A training photo" }), element("figcaption", { textContent: distance.toFixed(2) }))));
      box.hidden = false;
    } catch (error) {
      say(error.message, { bad: true });
    } finally {
      button.disabled = false;
    }
  });
  lab.store.observe((state, before) => {
    if (before && state.face !== before.face) {
      number++;
      box.hidden = true;
    }
  });
}
