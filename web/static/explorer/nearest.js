// The training photos nearest to the face; needs the server, and the run's folder of photos.

import { element, request } from "../shared/shell.js";
import { ask, complain } from "./server.js";
import { toText } from "./vectors.js";

const NOTE = element("p", { className: "soft small note", textContent: "Nearest training photos. At a distance of 1, they are as similar to this face as training photos usually are to each other's nearest; much below 1, the face may be a copy." });

/** @param {import("./lab.js").Lab} lab */
export async function setUpNearest(lab) {
  const { available } = await request("/api/explorer/nearest");
  if (!available) return;
  const button = document.getElementById("nearest"), box = document.getElementById("neighbours");
  button.hidden = false;
  let number = 0;
  button.addEventListener("click", async () => {
    const mine = ++number;
    button.disabled = true;
    try {
      const { faces } = await ask(lab, "/api/explorer/nearest", JSON.stringify({ z: toText(lab.vector(lab.store.state.face)) }));
      if (mine !== number) return;
      box.replaceChildren(NOTE.cloneNode(true), ...faces.map(({ image, distance }) =>
        element("figure", {}, element("img", { src: image, alt: "A training photo" }), element("figcaption", { textContent: distance.toFixed(2) }))));
      box.hidden = false;
    } catch (error) {
      complain(error);
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
