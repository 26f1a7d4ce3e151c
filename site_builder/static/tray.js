// What a reader has put aside to compare: kept in this browser, and handed on as an address.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { useKeys } from "./keys.js";
import { link } from "./route.js";

export const MOST = 6; // columns that a page holds side by side
const KEY = "neuron-atlas.compare";

/** @type {Set<(list: string[]) => void>} */
const listeners = new Set();
let kept = read();

function read() {
  try {
    const list = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(list) ? list.filter((one) => typeof one === "string").slice(0, MOST) : [];
  } catch {
    return []; // storage is switched off, or holds what another site of this host left
  }
}

export function setTray(/** @type {string[]} */ list) {
  kept = list.slice(0, MOST);
  try {
    localStorage.setItem(KEY, JSON.stringify(kept));
  } catch {
    // it holds until the page is left
  }
  for (const tell of listeners) tell(kept);
}

/** Addresses put aside, in their order. @returns {string[]} */
export function useTray() {
  const [list, setList] = useState(kept);
  useEffect(() => {
    setList(kept);
    listeners.add(setList);
    const follow = (/** @type {StorageEvent} */ event) => event.key === KEY && ((kept = read()), setList(kept)); // another tab
    addEventListener("storage", follow);
    return () => (listeners.delete(setList), removeEventListener("storage", follow));
  }, []);
  return list;
}

/** Address of the page that compares these. @param {string[]} list @param {string} title */
export const compareLink = (list, title = "") =>
  link.compare([list.length > 0 && `u=${list.join(",")}`, title !== "" && `title=${encodeURIComponent(title)}`].filter(Boolean).join("&"));

/** Puts a neuron or a head aside, or back. @param {{address: string}} props */
export function AddToCompare({ address }) {
  const list = useTray();
  const inside = list.includes(address);
  const full = !inside && list.length >= MOST;
  const change = () => !full && setTray(inside ? list.filter((one) => one !== address) : [...list, address]);
  useKeys({ c: change }, [address, list]);
  return html`<button class="plain" type="button" aria-pressed=${inside} disabled=${full} onClick=${change}
    title=${full ? `${MOST} at most: open the comparison and take one away` : ""}>${inside ? "In the comparison" : full ? "The comparison is full" : "Add to compare"}</button>`;
}

/** Leads to the comparison, once there is one. */
export function Tray() {
  const list = useTray();
  return list.length > 0 && html`<a class="tray" href=${compareLink(list)}>Compare ${list.length}</a>`;
}
