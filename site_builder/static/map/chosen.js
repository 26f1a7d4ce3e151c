// Neurons that were chosen on a map, as a list: what they are called, and each with its link.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { count, plural } from "../format.js";
import { addressOf, link } from "../route.js";
import { compareLink, MOST, setTray, useTray } from "../tray.js";
import { toldOf } from "./points.js";

const ROWS = 40; // until more are asked for
const LABELS = 6; // that are counted

/**
 * @param {{plane: import("./points.js").Plane, dots: import("./points.js").Dot[], title: string, whole: boolean, coming: boolean, focus: boolean, onClose: () => void}} props
 *   whole: all neurons of the region are read; coming: some of them are still on their way; focus: it was asked for by a key
 */
export function Chosen({ plane, dots, title, whole, coming, focus, onClose }) {
  const [rows, setRows] = useState(ROWS);
  const heading = useRef(null);
  const tray = useTray();
  useEffect(() => {
    setRows(ROWS);
    if (focus) heading.current?.focus();
  }, [dots]);
  const { list, labels } = told(plane, dots);
  const add = (address) => setTray(tray.includes(address) ? tray.filter((one) => one !== address) : [...tray, address]);
  const first = list.slice(0, MOST).map(({ address }) => address);
  return html`<section class="chosen" aria-labelledby="chosen"><h2 id="chosen" tabindex="-1" ref=${heading}>${plural(list.length, "neuron")} ${title}</h2>
    ${labels.length > 0 && html`<p class="sum note">${labels.slice(0, LABELS).map(([text, own], at) => html`${at > 0 ? "; " : ""}${count(own)} “${text}”`)}${labels.length > LABELS && `; ${plural(labels.length - LABELS, "other label")}`}</p>`}
    ${coming && html`<p class="note" role="status">More of them are on their way …</p>`}
    ${!whole && html`<p class="note">Of a sample: here are more neurons than a browser draws at once. Look closer to have all.</p>`}
    <p>${list.length > 1 && html`<a href=${compareLink(first)}>Compare ${list.length > MOST ? `the first ${MOST}` : "them"} side by side</a> `}<button class="plain" type="button" onClick=${onClose}>Close the list</button></p>
    <ul>${list.slice(0, rows).map(({ slug, layer, unit, label, address }) => {
      const inside = tray.includes(address);
      return html`<li key=${address}><a href=${link.neuron(slug, layer, unit)}>${address}</a><span class=${label ? "label-small" : "note"}>${label || "unlabelled"}</span>
        <button class="plain" type="button" aria-pressed=${inside} disabled=${!inside && tray.length >= MOST} onClick=${() => add(address)}
          aria-label=${`Add to compare: ${address}`}>Add to compare</button></li>`;
    })}</ul>
    ${list.length > rows && html`<button class="plain" type="button" onClick=${() => setRows(rows + 5 * ROWS)}>${count(list.length - rows)} more</button>`}</section>`;
}

/** Those of frequent labels first, unlabelled ones last; and how often each label comes. */
function told(plane, dots) {
  const list = dots.map((dot) => toldOf(plane, dot)).map((one) => ({ ...one, address: addressOf(one.slug, one.layer, one.unit) }));
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { label } of list) if (label) counts.set(label, (counts.get(label) ?? 0) + 1);
  const rank = ({ label }) => counts.get(label) ?? 0;
  list.sort((a, b) => rank(b) - rank(a) || a.label.localeCompare(b.label) || a.slug.localeCompare(b.slug) || a.layer - b.layer || a.unit - b.unit);
  return { list, labels: [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])) };
}
