// A wall of thumbnails of which only what is on screen is in the page: 3,072 neurons cost a few hundred nodes.
import { html, useCallback, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { folderOf, number5 } from "./data.js";
import { figure, percent } from "./format.js";
import { tileStyle } from "./pictures.js";
import { link } from "./route.js";
import { VERDICTS } from "./trust.js";

const TILE = 96; // CSS pixels aimed at; the columns then fill the width
const GAP = 4;
const SPARE = 3; // rows kept above and below the screen
const WORDS = { holds: "picture holds", partly: "picture holds in part", "does not": "picture does not hold" };
const SHEET = { columns: 8, size: 64 };

/**
 * @param {{slug: string, layer: number, table: any, order: number[], listed: number}} props
 *   order: positions in the table; listed: neurons of the wall, more than these while the rest of the table is on its way
 */
export function Wall({ slug, layer, table, order, listed }) {
  const box = useRef(null);
  const [view, setView] = useState({ columns: 0, side: TILE, first: 0, last: 0 });
  const [focus, setFocus] = useState(0); // place in the order
  const [named, setNamed] = useState(false); // whether a neuron is pointed at, so that its label shows
  const [asked, setAsked] = useState(0); // how often the keyboard asked for the focus: each time it is given
  const measure = useCallback(() => box.current && setView((old) => visible(box.current, listed, old)), [order]);

  useLayoutEffect(() => {
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    let frame = 0;
    const onScroll = () => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(measure);
    };
    addEventListener("scroll", onScroll, { passive: true });
    addEventListener("resize", onScroll);
    return () => {
      observer.disconnect();
      cancelAnimationFrame(frame);
      removeEventListener("scroll", onScroll);
      removeEventListener("resize", onScroll);
    };
  }, [measure]);

  const move = (to) => {
    setFocus(to);
    setAsked(asked + 1);
    reveal(box.current, Math.floor(to / view.columns), view.side + GAP);
    measure();
  };
  // at once, not after the next frame: the next key starts from the neuron that has the focus then
  useLayoutEffect(() => {
    if (asked > 0) box.current.querySelector(`[data-at="${focus}"]`)?.focus({ preventScroll: true });
  }, [asked]);
  useArrows(focus, view.columns, order.length, move);

  const folder = folderOf(slug, layer);
  const rows = view.columns ? Math.ceil(listed / view.columns) : 0;
  const inactive = new Set(table.inactive);
  const tiles = [];
  for (let at = view.first * view.columns; at < Math.min(order.length, view.last * view.columns); at++) {
    const place = order[at];
    tiles.push(html`<${Tile} key=${table.unit[place]} at=${at} unit=${table.unit[place]} href=${link.neuron(slug, layer, table.unit[place])}
      figures=${words(table, place, inactive)} inactive=${inactive.has(place)} tab=${at === focus ? 0 : -1} onFocus=${() => (setFocus(at), setNamed(true))}
      style=${{ ...boxOf(at, view), ...thumb(folder, table, place) }} />`);
  }
  return html`<p class="status-line" aria-hidden="true">${html`<b>unit ${table.unit[order[focus]]}</b> ${words(table, order[focus], inactive)}`}</p>
    <div class="wall" ref=${box} role="group" aria-label=${`${listed} neurons; arrow keys move, Enter opens`}
      onMouseLeave=${() => setNamed(false)} style=${{ height: `${Math.max(0, rows * (view.side + GAP) - GAP)}px` }}>${tiles}
      ${named && labelAt(table, order[focus]) !== "" && html`<${UnderTile} at=${focus} view=${view} text=${labelAt(table, order[focus])} />`}</div>`;
}

const labelAt = (table, place) => table.texts?.[table.label[place]] ?? "";

/** The label below the neuron that is pointed at; in the right half it ends where the picture ends. */
function UnderTile({ at, view, text }) {
  const column = at % view.columns;
  const top = (Math.floor(at / view.columns) + 1) * (view.side + GAP) - GAP;
  const place = column < view.columns / 2 ? { left: `${column * (view.side + GAP)}px` } : { right: `${(view.columns - 1 - column) * (view.side + GAP)}px` };
  return html`<span class="under-tile" aria-hidden="true" style=${{ top: `${top}px`, ...place }}>${text}</span>`;
}

function Tile({ at, unit, href, figures, inactive, tab, style, onFocus }) {
  return html`<a class=${inactive ? "tile inactive" : "tile"} href=${href} data-at=${at} tabindex=${tab} style=${style}
    aria-label=${`Unit ${unit}, ${figures}`} onFocus=${onFocus} onMouseEnter=${onFocus}></a>`;
}

/** What is said of a neuron in one line: its label first, then its figures as far as they were measured. */
function words(table, place, inactive) {
  const has = (name) => table[name]?.[place] != null;
  const label = labelAt(table, place);
  return [
    label !== "" && `“${label}”`, inactive.has(place) && "inactive",
    has("activation") && `activation ${figure(table.activation[place])}`,
    WORDS[VERDICTS[table.verdict?.[place]]],
    has("natural_kept") ? `keeps ${percent(Math.max(0, table.natural_kept[place]))} when changed a little`
      : has("robust_mean") && `recoloured and shifted ${figure(table.robust_mean[place])}`,
    has("fires_on") && `fires on ${percent(table.fires_on[place])}`,
    has("ratio_to_best") && `${figure(table.ratio_to_best[place])} × the best real image`,
    label !== "" && has("label_z") && `z ${figure(table.label_z[place])}`,
  ].filter(Boolean).join(", ");
}

/** Which rows are on screen, from where the wall lies in the window. */
function visible(element, length, old) {
  const width = element.clientWidth;
  const columns = Math.max(1, Math.round((width + GAP) / (TILE + GAP)));
  const side = (width - GAP * (columns - 1)) / columns;
  const step = side + GAP;
  const top = -element.getBoundingClientRect().top;
  const rows = Math.ceil(length / columns);
  const first = Math.max(0, Math.min(rows, Math.floor(top / step) - SPARE));
  const last = Math.max(first, Math.min(rows, Math.ceil((top + innerHeight) / step) + SPARE));
  const same = columns === old.columns && side === old.side && first === old.first && last === old.last;
  return same ? old : { columns, side, first, last };
}

const boxOf = (at, { columns, side }) => ({
  width: `${side}px`, height: `${side}px`,
  transform: `translate(${(at % columns) * (side + GAP)}px, ${Math.floor(at / columns) * (side + GAP)}px)`,
});

function thumb(folder, table, place) {
  const number = table.thumb[place];
  const sheet = Math.floor(number / SHEET.size);
  const inSheet = Math.min(SHEET.size, (table.of ?? table.unit.length) - sheet * SHEET.size);
  return {
    backgroundColor: `#${table.color.slice(place * 6, place * 6 + 6)}`,
    ...tileStyle(`${folder}/${number5(sheet)}.webp`, number % SHEET.size, SHEET.columns, Math.ceil(inSheet / SHEET.columns)),
  };
}

/** Scroll just far enough that a row is on screen, clear of the bar above. */
function reveal(element, row, step) {
  const top = element.getBoundingClientRect().top + row * step;
  const margin = 96;
  if (top < margin) scrollBy(0, top - margin);
  else if (top + step > innerHeight - 16) scrollBy(0, top + step - innerHeight + 16);
}

/** Arrows, Home and End move the focus along the wall, from anywhere on the page but a field or a group of buttons. */
function useArrows(focus, columns, length, move) {
  useLayoutEffect(() => {
    const steps = { ArrowLeft: focus - 1, ArrowRight: focus + 1, ArrowUp: focus - columns, ArrowDown: focus + columns, Home: 0, End: length - 1 };
    const onKey = (event) => {
      if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
      event.preventDefault();
      const begun = event.target.closest?.(".wall") != null;
      move(begun ? inRange(steps[event.key], focus, length) : focus);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  });
}

const inRange = (to, from, length) => (to < 0 || to >= length ? (Math.abs(to - from) > 1 ? from : Math.max(0, Math.min(length - 1, to))) : to);
