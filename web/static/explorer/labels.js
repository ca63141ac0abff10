// A new direction from faces that a person labels.

import { element, say } from "../shared/shell.js";
import { isFree } from "./address.js";
import { learnDirection } from "./directions.js";
import { faceOf } from "./state.js";
import { toText } from "./vectors.js";

const ENOUGH = 20, LEAST = 2;
const NAME = /^[\p{L}_][\p{L}\p{N}_]{0,39}$/u;

/** @param {import("./lab.js").Lab} lab */
export function setUpLabels(lab) {
  const { store, directions } = lab;
  const panel = document.getElementById("tool-label");
  const counts = element("p", { role: "status" });
  const progress = element("progress", { max: ENOUGH, value: 0, "aria-label": "Labels" });
  const name = element("input", { type: "text", value: "", placeholder: "friendly", maxLength: 40, spellcheck: false });
  const learn = element("button", { type: "button", className: "primary", textContent: "Make the direction" });
  const clear = element("button", { type: "button", textContent: "Clear labels" });
  const list = element("div", { className: "row" });
  panel.append(
    element("p", { className: "soft small", textContent: "Click faces on the wall: once for those that have the attribute (+), twice for those that do not (−), again to remove the label. Other walls have more faces. About 20 labels give a direction." }),
    counts, progress, element("label", { className: "field" }, "Name", name), element("div", { className: "row" }, learn, clear), list);

  clear.addEventListener("click", () => store.change({ plus: [], minus: [] }));
  learn.addEventListener("click", () => {
    const { plus, minus, own } = store.state;
    const text = name.value.trim().replaceAll(/\s+/g, "_");
    const known = directions.get(text);
    if (!NAME.test(text)) {
      say("Give the direction a name: a letter, then letters, digits or underscores.", { bad: true });
      name.focus();
      return;
    }
    if (!isFree(text)) {
      say(`The page uses ${text} for something else: choose another name.`, { bad: true });
      name.focus();
      return;
    }
    if (known && known.kind !== "own") {
      say(`There is a direction ${text} already: choose another name.`, { bad: true });
      return;
    }
    const vectors = [plus, minus].map((bases) => bases.map((base) => lab.gaussian(faceOf(base))));
    const vector = learnDirection(...vectors, lab.metric);
    store.change({ own: [...own.filter((other) => other.name !== text), { name: text, text: toText(vector) }], tool: "sliders" });
    say(`The direction ${text} is now among the sliders.`);
  });
  name.addEventListener("keydown", (event) => { if (event.key === "Enter" && !learn.disabled) learn.click(); });

  store.observe((state, before) => {
    const { plus, minus, own } = state;
    counts.textContent = `${plus.length} with it, ${minus.length} without`;
    progress.value = plus.length + minus.length;
    learn.disabled = plus.length < LEAST || minus.length < LEAST;
    clear.disabled = !plus.length && !minus.length;
    if (own !== before?.own) {
      list.replaceChildren(...own.map((one) => {
        const remove = element("button", { type: "button", textContent: `Remove ${one.name}` });
        remove.addEventListener("click", () => store.change({ own: store.state.own.filter((other) => other !== one) }));
        return remove;
      }));
    }
  });
}
