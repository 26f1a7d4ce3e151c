// What a long page holds: its sections as buttons, on screens where they lie far below. Addresses are pages here, so
// these are no links.
import { html, useEffect, useState } from "./vendor/htm-preact.js";

const found = () => [...document.querySelectorAll("main section h2[id]")].map((one) => `${one.id}\n${one.textContent}`);

/** Sections come when their data do: the list follows. */
export function Contents() {
  const [sections, setSections] = useState(/** @type {string[]} */ ([]));
  useEffect(() => {
    const look = () => setSections((old) => (old.join() === found().join() ? old : found()));
    const observer = new MutationObserver(look);
    observer.observe(/** @type {Node} */ (document.getElementById("main")), { childList: true, subtree: true });
    look();
    return () => observer.disconnect();
  }, []);
  if (sections.length < 3) return null;
  return html`<nav class="contents" aria-label="Sections of this page"><ul>${sections.map((one) => one.split("\n")).map(([id, name]) => html`<li key=${id}>
    <button type="button" onClick=${() => show(id)}>${name}</button></li>`)}</ul></nav>`;
}

/** Bring a section to the top, opened, and the focus to it. */
function show(/** @type {string} */ id) {
  const heading = /** @type {HTMLElement} */ (document.getElementById(id));
  const fold = heading.closest("details");
  if (fold) fold.open = true;
  const goal = /** @type {HTMLElement} */ (fold?.querySelector("summary") ?? heading);
  if (!fold) goal.tabIndex = -1;
  goal.focus({ preventScroll: true });
  goal.scrollIntoView({ block: "start" });
}
