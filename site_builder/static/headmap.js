// All heads of a model on one map: a row a layer, a column a head, coloured by any measure.
import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { has } from "./heads.js";
import { depthOf, fullOf, meaningOf, measureAsked, measuresOf } from "./measures.js";
import { headAddressOf, link } from "./route.js";

/**
 * @param {{slug: string, heads: {rows: any[], scores: Record<string, any>}, by: string|null, onMeasure: (key: string) => void,
 *   sites: any[], here?: {layer: number, unit: number}}} props here: a head that is marked
 */
export function HeadMap({ slug, heads, by, onMeasure, sites, here }) {
  const measures = measuresOf(heads);
  const measure = measureAsked(measures, by, heads.rows);
  const { rows } = heads;
  const [place, setPlace] = useState(-1); // row that is pointed at; -1: none yet
  const [asked, setAsked] = useState(0); // how often the keyboard asked for the focus
  const box = useRef(null);
  const touched = useRef(false); // whether the last pointer was a finger: it reads first, then opens
  // at once, not after the next frame: a focus that comes late would take back what the next key did
  useLayoutEffect(() => {
    if (asked > 0) box.current.querySelector(`[data-at="${place}"]`)?.focus();
  }, [asked]);
  const layers = [...new Set(rows.map((row) => row.layer))];
  const most = Math.max(...rows.map((row) => row.unit)) + 1;
  const first = here === undefined ? 0 : Math.max(0, rows.findIndex((row) => row.layer === here.layer && row.unit === here.unit));
  const current = place < 0 ? first : place;
  const onKey = (event) => {
    const to = step(rows, current, event.key);
    if (to === null || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // else the page's own arrows follow too
    setPlace(to);
    setAsked(asked + 1);
  };
  const full = fullOf(measure, rows);
  const cell = (row) => {
    const at = rows.indexOf(row);
    const value = measure.value(row, at);
    const open = (event) => {
      if (!touched.current || place === at) return;
      event.preventDefault();
      setPlace(at);
    };
    return html`<a key=${row.unit} data-at=${at} href=${link.head(slug, row.layer, row.unit)} tabindex=${at === current ? 0 : -1}
      class=${`cell ${row.level === "direct" ? "" : "through"} ${value === null ? "absent" : ""} ${here && at === first ? "here" : ""} ${at === place ? "pointed" : ""}`}
      style=${value === null ? {} : { "--share": `${Math.round(100 * depthOf(measure, Math.abs(value) / full))}%`, "--hue": !measure.signed ? "var(--accent)" : value < 0 ? "var(--minus)" : "var(--plus)" }}
      aria-label=${words(row, measure, value)} onFocus=${() => setPlace(at)} onMouseEnter=${() => !touched.current && setPlace(at)} onClick=${open}></a>`;
  };
  return html`<div class=${measure.signed ? "headmap" : "headmap unsigned"}>
    <div class="sortbar"><div><label for="by-measure">Colour by</label><select id="by-measure" value=${measure.key} onChange=${(event) => onMeasure(event.target.value)}>
        ${measures.map(({ key, name }) => html`<option key=${key} value=${key}>${name}</option>`)}</select></div>
      <${Legend} measure=${measure} full=${full} rows=${rows} /></div>
    <p class="note">${meaningOf(measure)}.${measure.root && " Colours follow the square root, so that small figures are told apart."}</p>
    <${Reading} slug=${slug} row=${rows[current]} measure=${measure} value=${measure.value(rows[current], current)} pointed=${place >= 0} here=${here !== undefined} />
    <div class="rows" ref=${box} role="group" aria-label=${`${rows.length} heads by layer; arrow keys move, Enter opens`} onKeyDown=${onKey}
      onPointerDown=${(event) => (touched.current = event.pointerType === "touch")} onPointerMove=${(event) => (touched.current = event.pointerType === "touch")}>
      <div class="row numbers" aria-hidden="true"><span class="axis">layer</span><span class="cells" style=${{ "--most": most }}>${Array.from({ length: most }, (_, at) => html`<span key=${at}>${at}</span>`)}</span></div>
      ${layers.map((layer) => html`<div key=${layer} class="row"><span class="axis" title=${sites[layer]?.path}>${layer}<span class="path">${sites[layer] && html`<code>${sites[layer].path}</code> ${sites[layer].attention_kind}`}</span></span>
        <span class="cells" style=${{ "--most": most }}>${rows.filter((row) => row.layer === layer).map(cell)}</span></div>`)}
    </div>
  </div>`;
}

/** Arrows along the layer and to the same head of the next one; Home and End to the layer's ends. */
function step(rows, at, key) {
  const { layer, unit } = rows[at];
  const find = (toLayer, toUnit) => rows.findIndex((row) => row.layer === toLayer && row.unit === toUnit);
  const own = rows.filter((row) => row.layer === layer).map((row) => row.unit);
  const across = (sign) => {
    const others = [...new Set(rows.map((row) => row.layer))].filter((one) => sign * (one - layer) > 0);
    if (others.length === 0) return at;
    const to = sign > 0 ? Math.min(...others) : Math.max(...others);
    return find(to, Math.min(unit, Math.max(...rows.filter((row) => row.layer === to).map((row) => row.unit))));
  };
  const moves = {
    ArrowLeft: () => find(layer, unit - 1), ArrowRight: () => find(layer, unit + 1), ArrowUp: () => across(-1), ArrowDown: () => across(1),
    Home: () => find(layer, Math.min(...own)), End: () => find(layer, Math.max(...own)),
  };
  if (!(key in moves)) return null;
  const to = moves[key]();
  return to < 0 ? at : to;
}

const words = (row, measure, value) => [`layer ${row.layer}, head ${row.unit}`, row.label && `“${row.label}”`,
  `${measure.name} ${measure.words(value, row)}`, row.level !== "direct" && row.level].filter(Boolean).join(", ");

/** The head that is pointed at, in words, with its link: a finger opens it here. */
function Reading({ slug, row, measure, value, pointed, here }) {
  if (!pointed && !here) return html`<p class="reading note">Point at a head, tap it, or move with the arrow keys: its figure stands here.</p>`;
  return html`<p class="reading"><a href=${link.head(slug, row.layer, row.unit)}>${headAddressOf(slug, row.layer, row.unit)}</a>
    <b>${measure.words(value, row)}</b>${has(row.label) ? html` <span class="said">“${row.label}”</span>` : ""}
    ${row.level !== "direct" && html` <span class="note">· ${row.level}</span>`}</p>`;
}

function Legend({ measure, full, rows }) {
  const through = rows.some((row) => row.level !== "direct");
  const absent = rows.some((row, at) => measure.value(row, at) === null);
  const end = measure.plain(full);
  const middle = measure.signed ? "0" : measure.plain(measure.root ? full / 4 : full / 2);
  return html`<div class="legend"><span class="ends" role="img" aria-label=${`Colours from ${measure.signed ? `minus ${end}` : "0"} to ${end}`}>${measure.signed ? `−${end}` : "0"}
      <span class=${measure.signed ? "scale below" : "scale lower"}></span>${middle}<span class=${measure.signed ? "scale above" : "scale upper"}></span>${end}</span>
    ${through && html`<span class="key"><i class="cell"></i> direct</span><span class="key"><i class="cell through"></i> through attention</span>`}
    ${absent && html`<span class="key"><i class="cell absent"></i> no figure</span>`}</div>`;
}
