// Keys for the whole page; those of the wall and the tabs are theirs.

const BUTTONS = { k: "keep", s: "save", b: "compare", 0: "reset", n: "next", p: "previous", "?": "show-help" };

/** @param {import("./lab.js").Lab} lab */
export function setUpKeyboard({ store }) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const writing = event.target.closest?.("input:not([type=range]), textarea, select");
    const key = event.key.toLowerCase();
    if ((event.ctrlKey || event.metaKey) && !writing && (key === "z" || key === "y")) {
      event.preventDefault();
      if (key === "y" || event.shiftKey) store.redo();
      else store.undo();
      return;
    }
    if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = document.getElementById(BUTTONS[key]);
    if (button && !button.disabled) {
      event.preventDefault();
      button.click();
    }
  });
}
