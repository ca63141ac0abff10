// A slider for each direction, and the locks.

import { element, say } from "../shared/shell.js";
import { shownName, shownStrength } from "./directions.js";
import { learnIdentity } from "./identity.js";

const RANGE = 3;
/** Share of faces that must change one way, for a direction not to be shown as weak. */
const MONOTONE = 0.5;
/** Leak as a share of a random direction's, up to which a direction is as good as docs/directions.md asks. */
const CLEAN = 1 / 3;
const PADLOCK = { closed: "M5 8V6a3 3 0 0 1 6 0v2M4 8h8v6H4z", open: "M5 8V5a3 3 0 0 1 6 0M4 8h8v6H4z" };

/** @param {import("./lab.js").Lab} lab */
export function setUpSliders(lab) {
  const { store, directions } = lab;
  const panel = document.getElementById("tool-sliders");
  const identity = element("button", { type: "button", textContent: "keep identity", title: "Prefer ways to the same effect that change the face's structure less" });
  const pose = element("button", { type: "button", textContent: "keep pose", title: "Do not turn the head" });
  const named = element("div", { className: "directions" }), leading = element("div", { className: "directions" }), sefa = element("div");
  const others = element("details", { className: "unnamed" }, element("summary", { textContent: "More unnamed directions, by how much the first layer changes (SeFa)" }), sefa);
  const heading = element("h3", { textContent: "Unnamed directions, by how much faces change" });
  const legend = element("p", { className: "soft small" }, element("span", { className: "meter" }, element("i")), "leak: how much other attributes change; the bar is full at the leak of a random direction. ");
  legend.querySelector("i").className = "third";
  const more = element("button", { type: "button", className: "link", textContent: "What the terms mean" });
  more.addEventListener("click", () => {
    document.getElementById("show-help").click();
    document.getElementById("words").scrollIntoView();
  });
  legend.append(more);
  panel.append(element("div", { className: "locks" }, "Locks:", identity, pose), legend, named, heading, leading, others);
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
    legend.hidden = !named.querySelector(".leak");
    if (!named.childElementCount) {
      named.append(element("p", { className: "soft small", textContent: "This generator has no named directions yet: make one with the tool Label, or run directions.py." }));
    }
  };
  store.observe((state, before) => {
    if (!before || state.own !== before.own) build();
    const { shift, locks } = state.face;
    for (const [name, { input, output, lock }] of rowsByName) {
      const strength = shift[name] ?? 0;
      input.value = strength;
      output.value = shownStrength(strength);
      const locked = directions.isLocked(name, locks);
      input.disabled = locked;
      lock.setAttribute("aria-pressed", String(locked));
    }
    identity.setAttribute("aria-pressed", String(locks.includes("identity")));
    // The lock may also come from the address, a saved picture, or a slot.
    const locked = [state.face, ...state.slots].find((face) => face?.locks.includes("identity") && !directions.hasIdentity(face.base));
    if (locked && !identity.disabled) measureIdentity(lab, identity, locked.base);
    pose.setAttribute("aria-pressed", String(locks.includes("pose")));
  });
}

/** A direction's row: its name, slider, strength, lock, and what it changes besides. */
function row({ store }, { name, kind, scores }) {
  const shown = shownName(name);
  const input = element("input", { type: "range", min: -RANGE, max: RANGE, step: 0.05, "aria-label": shown });
  const output = element("output");
  const lock = element("button", { type: "button", "aria-label": `lock ${shown}`, title: "Keep this attribute as it is while other sliders move" }, padlock("open"), padlock("closed"));
  const head = element("div", { className: "head" }, element("span", { className: "name", textContent: shown }));
  const leak = kind === "named" && describeLeak(scores);
  if (leak) head.append(leak);
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
  const box = element("div", { className: "direction" }, head, input, output, lock);
  box.classList.toggle("weak", scores.monotone < MONOTONE || scores.leak > scores.random_leak);
  return { box, input, output, lock };
}

/** What a direction changes besides its attribute, and why it is pale if it is. */
function describeLeak({ leak, random_leak: random, monotone }) {
  if (!Number.isFinite(leak)) return null;
  const bar = element("i");
  const whole = Number.isFinite(random) && random > 0 ? random : Math.max(leak, 1);
  bar.style.width = `${Math.min(100, (100 * leak) / whole)}%`;
  const meter = element("span", { className: leak > CLEAN * whole ? "meter high" : "meter" }, bar);
  const parts = [`leak ${leak.toFixed(2)}`], percent = `${Math.round(100 * monotone)}%`;
  if (leak > random) parts.push("more than random");
  if (monotone < MONOTONE) parts.push(`monotone ${percent}`);
  const title = [
    `Leak ${leak.toFixed(2)}: other attributes change by this much, for a change of 1 in its own.`,
    Number.isFinite(random) && `A random direction has ${random.toFixed(2)}.`,
    Number.isFinite(monotone) && `Monotone ${percent}: in this share of faces, the attribute only increases from −3 to 3.`,
  ].filter(Boolean).join(" ");
  return element("span", { className: "leak", title }, meter, parts.join(" · "));
}

/** A padlock; the style of its button shows one of the two. */
function padlock(kind) {
  const holder = element("template");
  holder.innerHTML = `<svg class="padlock ${kind}" viewBox="0 0 16 16" aria-hidden="true"><path d="${PADLOCK[kind]}"/></svg>`;
  return holder.content.firstChild;
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

/** Measure what the lock of identity needs of a face, then draw the faces again. */
async function measureIdentity(lab, button, base) {
  const { textContent } = button;
  button.disabled = true;
  try {
    await learnIdentity(lab, base, (share) => { button.textContent = `measuring the face … ${Math.round(100 * share)}%`; });
  } catch (error) {
    // Without the lock, or it would be measured again at once.
    if (lab.store.state.face.locks.includes("identity")) toggleLock(lab.store, "identity");
    say(`The face cannot be measured: ${error.message}`, { bad: true });
  }
  Object.assign(button, { disabled: false, textContent });
  lab.store.refresh();
}
