// A slider for each direction, and the locks.

import { element, say } from "../shared/shell.js";
import { learnIdentity } from "./identity.js";

const RANGE = 3;
/** Share of faces that must change one way, for a direction not to be shown as weak. */
const STEADY = 0.5;

/** @param {import("./lab.js").Lab} lab */
export function setUpSliders(lab) {
  const { store, directions } = lab;
  const panel = document.getElementById("tool-sliders");
  const identity = element("button", { type: "button", textContent: "keep identity", title: "Prefer ways to the same effect that change the face's structure less" });
  const pose = element("button", { type: "button", textContent: "keep pose", title: "Do not turn the head" });
  const named = element("div", { className: "directions" }), leading = element("div", { className: "directions" }), sefa = element("div");
  const others = element("details", { className: "unnamed" }, element("summary", { textContent: "More, by the change of the first features (SeFa)" }), sefa);
  const heading = element("h3", { textContent: "Unnamed, by how much they change" });
  panel.append(element("div", { className: "locks" }, "Locks:", identity, pose), named, heading, leading, others);
  pose.hidden = !directions.hasPose;
  identity.addEventListener("click", () => lockIdentity(store));
  pose.addEventListener("click", () => toggleLock(store, "pose"));

  let rowsByName = new Map();
  const build = () => {
    rowsByName = new Map(directions.all.map((direction) => [direction.name, row(lab, direction)]));
    const rows = (isShown) => directions.all.filter(isShown).map(({ name }) => rowsByName.get(name).box);
    const isSefa = ({ name, kind }) => kind === "unnamed" && name.startsWith("sefa");
    named.replaceChildren(...rows(({ kind }) => kind !== "unnamed"));
    leading.replaceChildren(...rows((one) => one.kind === "unnamed" && !isSefa(one)));
    sefa.replaceChildren(...rows(isSefa));
    others.open = !leading.childElementCount;
    if (!named.childElementCount) {
      named.append(element("p", { className: "soft small", textContent: "This generator has no named directions yet: label some faces here, or run directions.py." }));
    }
  };
  store.observe((state, before) => {
    if (!before || state.own !== before.own) build();
    const { shift, locks } = state.face;
    for (const [name, { input, output, lock }] of rowsByName) {
      const strength = shift[name] ?? 0;
      input.value = strength;
      output.value = strength ? strength.toFixed(2).replace("-", "−") : "0";
      const locked = directions.isLocked(name, locks);
      input.disabled = locked;
      lock.setAttribute("aria-pressed", String(locked));
    }
    identity.setAttribute("aria-pressed", String(locks.includes("identity")));
    // The lock may also come from the address, a saved picture, or a slot.
    const isLocked = [state.face, ...state.slots].some((face) => face?.locks.includes("identity"));
    if (isLocked && !directions.identity && !identity.disabled) measureIdentity(lab, identity);
    pose.setAttribute("aria-pressed", String(locks.includes("pose")));
  });
}

/** A direction's row: its name, slider, strength, lock, and what it changes besides. */
function row({ store }, { name, kind, scores }) {
  const shown = name.replaceAll("_", " ");
  const input = element("input", { type: "range", min: -RANGE, max: RANGE, step: 0.05, "aria-label": shown });
  const output = element("output");
  const lock = element("button", { type: "button", textContent: "lock", "aria-label": `lock ${shown}`, title: "Leave this as it is while others move" });
  const set = (strength, isStep) => {
    const { face } = store.state;
    const shift = { ...face.shift, [name]: strength };
    if (!strength) delete shift[name];
    store.change({ face: { ...face, shift } }, isStep);
  };
  input.addEventListener("input", () => set(Number(input.value), false));
  input.addEventListener("change", () => set(Number(input.value), true));
  input.addEventListener("dblclick", () => set(0, true));
  lock.addEventListener("click", () => toggleLock(store, name));
  const box = element("div", { className: "direction" }, element("span", { className: "name", textContent: shown }), input, output, lock);
  const leak = kind === "named" && describeLeak(scores);
  if (leak) box.append(leak);
  box.classList.toggle("weak", scores.monotone < STEADY || scores.leak > scores.random_leak);
  return { box, input, output, lock };
}

/** What a direction changes besides its attribute, beside what a random one does. */
function describeLeak({ leak, random_leak: random, monotone }) {
  if (!Number.isFinite(leak)) return null;
  const bar = element("i");
  const whole = Number.isFinite(random) && random > 0 ? random : Math.max(leak, 1);
  bar.style.width = `${Math.min(100, (100 * leak) / whole)}%`;
  const parts = [`leak ${leak.toFixed(2)}`];
  if (Number.isFinite(random)) parts.push(`random ${random.toFixed(2)}`);
  if (Number.isFinite(monotone)) parts.push(`steady ${Math.round(100 * monotone)}%`);
  const title = "Leak: how much other attributes change for one standard deviation of its own, beside a random direction's. Steady: the share of faces in which it changes one way from -3 to 3.";
  return element("span", { className: "leak", title }, element("span", { className: "meter" }, bar), ` ${parts.join(" · ")}`);
}

function toggleLock(store, lock) {
  const { face } = store.state;
  const locks = face.locks.includes(lock) ? face.locks.filter((other) => other !== lock) : [...face.locks, lock];
  store.change({ face: { ...face, locks } });
}

function lockIdentity(store) {
  toggleLock(store, "identity");
  if (store.state.face.locks.includes("identity") && !Object.keys(store.state.face.shift).length) {
    say("From now on the sliders change the face's structure less.");
  }
}

/** Measure what the lock of identity needs, then draw the faces again. */
async function measureIdentity(lab, button) {
  const { textContent } = button;
  button.disabled = true;
  await learnIdentity(lab, (share) => { button.textContent = `looking at faces … ${Math.round(100 * share)}%`; });
  Object.assign(button, { disabled: false, textContent });
  lab.store.refresh();
}
