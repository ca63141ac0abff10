// The tabs of the tools. Arrow keys go from one to the next.

/** @param {import("./lab.js").Lab} lab */
export function setUpTabs({ store }) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const toolOf = (tab) => tab.id.slice("tab-".length);
  for (const tab of tabs) {
    tab.addEventListener("click", () => store.change({ tool: toolOf(tab) }, false));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const shown = tabs.filter((one) => !one.hidden);
      const next = shown[(shown.indexOf(tab) + step + shown.length) % shown.length];
      next.click();
      next.focus();
    });
  }
  store.observe(({ tool }) => {
    const chosen = tabs.find((tab) => toolOf(tab) === tool && !tab.hidden) ?? tabs[0];
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  });
}
