// Dragging faces to places that take them, with mouse, pen or finger.
//
// The browser's own drag and drop does not exist for fingers, so pointer events do it for all. A mouse or a pen
// drags at once; a finger drags after holding still for a moment, because a finger that moves at once scrolls.

import { element } from "../shared/shell.js";

const HOLD_MILLISECONDS = 300;
const SLACK = 5, FINGER_SLACK = 10; // pixels that a pointer may move before it counts as moving
const CLICK_MILLISECONDS = 1000; // after a finger is lifted, in which a busy browser may send its click
const EDGE = 50, SCROLL_STEP = 12; // pixels from the window's edge in which it scrolls, and by how much per frame
const EMPTY = () => {};

/** What takes faces: functions of a face and its number as text. */
const targets = new Map();

/** Let faces be dropped on an element; of nested ones the inner takes it. */
export function acceptFaces(target, onFace) {
  targets.set(target, onFace);
}

/**
 * Let a face be dragged from an element that shows it.
 * @param {HTMLElement} source
 * @param {HTMLCanvasElement} canvas with its picture.
 * @param {function(): {face: object, number: string}|null} read what is dragged; null for nothing.
 */
export function letDrag(source, canvas, read) {
  let stop = EMPTY;
  // Once a face is held, its finger no longer scrolls. This has to listen before the finger comes down.
  source.addEventListener("touchmove", (event) => { if (stop !== EMPTY && source.dataset.held) event.preventDefault(); }, { passive: false });
  // A long press also asks for a menu.
  source.addEventListener("contextmenu", (event) => { if (stop !== EMPTY) event.preventDefault(); });
  source.addEventListener("dragstart", (event) => event.preventDefault());
  source.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button !== 0 || !read()) return;
    stop();
    stop = follow(event, source, canvas, read, () => { stop = EMPTY; });
  });
}

/** Follow a pointer that went down on a face until it goes up; returns a function that gives up. */
function follow(down, source, canvas, read, onEnd) {
  const listening = new AbortController(), { signal } = listening;
  const isFinger = down.pointerType === "touch", slack = isFinger ? FINGER_SLACK : SLACK;
  let carried = null, ghost, target = null, frame, at = { x: down.clientX, y: down.clientY };

  const lift = () => {
    carried = read();
    if (!carried) { end(); return; }
    source.dataset.held = "yes";
    ghost = element("canvas", { className: "ghost", width: canvas.width, height: canvas.height });
    ghost.getContext("2d").drawImage(canvas, 0, 0);
    document.body.append(ghost);
    document.documentElement.classList.add("dragging");
    navigator.vibrate?.(10);
    place();
    frame = requestAnimationFrame(scroll);
  };
  const place = () => {
    ghost.style.left = `${at.x}px`;
    ghost.style.top = `${at.y}px`;
    const under = document.elementFromPoint(at.x, at.y);
    const found = [...targets.keys()].filter((one) => one.contains(under)).sort((a, b) => (a.contains(b) ? 1 : -1))[0] ?? null;
    if (found === target) return;
    target?.classList.remove("over");
    target = found;
    target?.classList.add("over");
  };
  const scroll = () => {
    const step = at.y < EDGE ? -SCROLL_STEP : at.y > innerHeight - EDGE ? SCROLL_STEP : 0;
    if (step) {
      scrollBy(0, step);
      place();
    }
    frame = requestAnimationFrame(scroll);
  };
  const end = () => {
    clearTimeout(timer);
    cancelAnimationFrame(frame);
    listening.abort();
    ghost?.remove();
    target?.classList.remove("over");
    delete source.dataset.held;
    document.documentElement.classList.remove("dragging");
    onEnd();
  };
  const timer = isFinger ? setTimeout(lift, HOLD_MILLISECONDS) : undefined;

  const hasMoved = () => Math.hypot(at.x - down.clientX, at.y - down.clientY) >= slack;
  const isMine = (event) => event.pointerId === down.pointerId;
  addEventListener("pointermove", (event) => {
    if (!isMine(event)) return;
    at = { x: event.clientX, y: event.clientY };
    // On a busy machine, the timer of the hold may come before a move that was made earlier.
    const isLate = isFinger && event.timeStamp - down.timeStamp < HOLD_MILLISECONDS;
    if (carried && !isLate) { place(); return; }
    if (!hasMoved()) return;
    if (isFinger) end(); // it scrolls
    else lift();
  }, { signal });
  addEventListener("pointerup", (event) => {
    if (!isMine(event)) return;
    const [dropped, onto] = [carried, target];
    end();
    if (!dropped) return;
    const isTap = isFinger && !hasMoved();
    if (isTap) source.click(); // a slow one, for which browsers send a click or not
    // The click that follows belongs to the drag.
    const swallowing = new AbortController(), ofDrag = { capture: true, signal: swallowing.signal };
    const swallow = (click) => {
      if (!click.isTrusted || click.detail === 0) return; // of a program, or of a key
      click.preventDefault();
      click.stopPropagation();
    };
    addEventListener("click", swallow, ofDrag);
    addEventListener("pointerdown", () => swallowing.abort(), ofDrag); // a new gesture, whose click is its own
    setTimeout(() => swallowing.abort(), isFinger ? CLICK_MILLISECONDS : 0);
    if (onto && !isTap) targets.get(onto)(dropped.face, dropped.number);
  }, { signal });
  addEventListener("pointercancel", (event) => { if (isMine(event)) end(); }, { signal });
  addEventListener("blur", end, { signal });
  addEventListener("keydown", (event) => { if (event.key === "Escape") end(); }, { signal });
  return end;
}
