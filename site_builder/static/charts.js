// Small drawings of numbers, each with its words for those who do not see it. Plain SVG in CSS pixels.
import { html } from "./vendor/htm-preact.js";
import { figure } from "./format.js";

const scale = (/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ from, /** @type {number} */ to) =>
  (/** @type {number} */ value) => from + ((value - low) / (high - low)) * (to - from);

/** Ends that hold all values, a little room at both sides, and never nothing. */
function extent(/** @type {number[]} */ values, room = 0.04) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = Math.max((high - low) * room, Math.abs(high) * 1e-3, 1e-9);
  return [low - pad, high + pad];
}

/**
 * Values on one scale, a row each: a dot, a range of one standard deviation, or the spread of a layer.
 * @param {{label: string, unit?: string, rows: {name: string, value?: number|null, spread?: number|null,
 *   band?: number[], note?: string, kind?: string}[]}} props
 */
export function DotPlot({ label, rows }) {
  const shown = rows.filter((row) => row.band !== undefined || (row.value !== null && row.value !== undefined));
  const ends = (row) => row.band ?? [row.value - (row.spread ?? 0), row.value + (row.spread ?? 0)];
  const values = shown.flatMap(ends);
  const [low, high] = extent([0, ...values]);
  const at = (value) => `${scale(low, high, 0, 100)(value)}%`;
  return html`<div class="dots" role="group" aria-label=${label}>
    ${shown.map((row) => html`<div class="dot-row" key=${row.name}>
      <span class="name">${row.name}</span>
      <svg width="100%" height="24" aria-hidden="true" class=${row.kind ?? ""}>
        <line class="axis" x1="0" x2="100%" y1="12" y2="12" />
        <line class="zero" x1=${at(0)} x2=${at(0)} y1="0" y2="24" />
        ${row.band && html`<${Band} band=${row.band} at=${at} />`}
        ${row.spread != null && html`<line class="spread" x1=${at(ends(row)[0])} x2=${at(ends(row)[1])} y1="12" y2="12" />`}
        ${row.band === undefined && html`<circle cx=${at(row.value ?? 0)} cy="12" r="5" />`}
      </svg>
      <span class="reading">${row.note ?? figure(row.value)}</span>
    </div>`)}
  </div>`;
}

/** Quantiles 5, 25, 50, 75, 95 % of the other neurons. */
function Band({ band, at }) {
  const width = (from, to) => `${Math.max(parseFloat(at(to)) - parseFloat(at(from)), 0.3)}%`;
  return html`<rect class="wide" x=${at(band[0])} width=${width(band[0], band[4])} y="10" height="4" />
    <rect class="half" x=${at(band[1])} width=${width(band[1], band[3])} y="7" height="10" />
    <line class="median" x1=${at(band[2])} x2=${at(band[2])} y1="4" y2="20" />`;
}

/**
 * A quantity over the steps of the optimization, with its first and last value written out.
 * @param {{title: string, points: [number, number|null][]}} props step, value
 */
export function Curve({ title, points }) {
  const known = /** @type {[number, number][]} */ (points.filter(([, value]) => value !== null));
  if (known.length < 2) return null;
  const [width, height] = [240, 72];
  const x = scale(known[0][0], known[known.length - 1][0], 4, width - 4);
  const [low, high] = extent(known.map(([, value]) => value), 0.08);
  const y = scale(low, high, height - 4, 4);
  const path = known.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const [first, last] = [known[0], known[known.length - 1]];
  const words = `${title}: ${figure(first[1])} at step ${first[0]}, ${figure(last[1])} at step ${last[0]}`;
  return html`<figure class="curve"><figcaption>${title}</figcaption>
    <svg viewBox=${`0 0 ${width} ${height}`} role="img" aria-label=${words}>
      ${low < 0 && high > 0 && html`<line class="zero" x1="4" x2=${width - 4} y1=${y(0)} y2=${y(0)} />`}
      <polyline points=${path} />
      ${known.map(([step, value]) => html`<circle key=${step} cx=${x(step)} cy=${y(value)} r="2"><title>${`step ${step}: ${figure(value)}`}</title></circle>`)}
    </svg>
    <div class="ends"><span>step ${first[0]}: ${figure(first[1])}</span><span>step ${last[0]}: ${figure(last[1])}</span></div>
  </figure>`;
}

/**
 * How many images reach which value, with one more value marked: far beyond the images, it stands behind a gap.
 * @param {{histogram: {low: number, high: number, counts: number[]}, mark: number|null, from: number|null, name: string}} props
 *   from: bars that begin there or later are those that fire
 */
export function Histogram({ histogram: { low, high: top, counts }, mark, from, name }) {
  const [width, height] = [480, 80];
  const high = top > low ? top : low + 1; // all images alike: one bar at the left
  const far = mark !== null && mark > high + 0.5 * (high - low);
  const end = far ? width - 72 : width - 8;
  const x = scale(Math.min(low, mark ?? low), far || mark === null ? high : Math.max(high, mark), 8, end);
  const tall = Math.sqrt(Math.max(...counts, 1));
  const step = (high - low) / counts.length;
  const at = mark === null ? null : far ? width - 24 : x(mark);
  const share = (place) => ({ left: `${(100 * place) / width}%` });
  const words = `${name}, from ${figure(low)} to ${figure(high)}${mark === null ? "" : `; the picture reaches ${figure(mark)}`}`;
  return html`<div class="histogram" role="img" aria-label=${words}><svg viewBox=${`0 0 ${width} ${height}`} aria-hidden="true">
    ${counts.map((count, i) => {
      const [left, right] = [x(low + i * step), x(low + (i + 1) * step)];
      const bar = ((height - 18) * Math.sqrt(count)) / tall;
      const kind = from !== null && low + (i + 0.5) * step >= from ? "fires" : "";
      return count > 0 && html`<rect key=${i} class=${kind} x=${left} width=${Math.max(0.5, right - left - 1)} y=${height - 2 - bar} height=${bar}>
        <title>${`${figure(low + i * step)} to ${figure(low + (i + 1) * step)}: ${count} images`}</title></rect>`;
    })}
    <line class="axis" x1="0" x2=${end} y1=${height - 1} y2=${height - 1} />
    ${far && html`<line class="gap" x1=${end + 4} x2=${width - 44} y1=${height - 1} y2=${height - 1} /><line class="axis" x1=${width - 40} x2=${width} y1=${height - 1} y2=${height - 1} />`}
    ${at !== null && html`<line class="mark" x1=${at} x2=${at} y1="10" y2=${height - 1} /><circle class="mark" cx=${at} cy="8" r="4" />`}
  </svg><div class="scale" aria-hidden="true"><span style=${share(x(low))}>${figure(low)}</span>
    <span class="end" style=${share(x(high))}>${figure(high)}</span>${far && html`<span class="mid" style=${share(width - 24)}>${figure(mark)}</span>`}</div></div>`;
}

/** A share of a whole, or a correlation, with what chance reaches as a tick. @param {{value: number, chance?: number|null}} props both 0 to 1 */
export function Bar({ value, chance }) {
  const share = (part) => `${100 * Math.min(1, Math.max(0, part))}%`;
  return html`<svg class="bar-of" width="100%" height="8" aria-hidden="true">
    <rect class="whole" width="100%" height="8" /><rect class="part" width=${share(value)} height="8" />
    ${chance != null && html`<line x1=${share(chance)} x2=${share(chance)} y1="0" y2="8" />`}</svg>`;
}

/** A value on a scale that holds 0: a bar from there, to the right or to the left. @param {{value: number, low: number, high: number}} props low: 0 or less */
export function SignedBar({ value, low, high }) {
  const at = (one) => (100 * (Math.min(high, Math.max(low, one)) - low)) / (high - low);
  return html`<svg class="bar-of signed" width="100%" height="8" aria-hidden="true"><rect class="whole" width="100%" height="8" />
    <rect class=${value < 0 ? "part minus" : "part"} x=${`${at(Math.min(0, value))}%`} width=${`${Math.abs(at(value) - at(0))}%`} height="8" />
    ${low < 0 && html`<line class="nothing" x1=${`${at(0)}%`} x2=${`${at(0)}%`} y1="0" y2="8" />`}</svg>`;
}

/** A share of a whole that begins where those before it end. @param {{from: number, to: number}} props both 0 to 1 */
export function Waterfall({ from, to }) {
  const share = (part) => `${100 * Math.min(1, Math.max(0, part))}%`;
  return html`<svg class="bar-of" width="100%" height="8" aria-hidden="true"><rect class="whole" width="100%" height="8" />
    <rect class="before" width=${share(from)} height="8" /><rect class="part" x=${share(from)} width=${share(to - from)} height="8" /></svg>`;
}

/**
 * One head among all of its model, by several measures: a tick a head, a pin for this one. Each measure has its own scale.
 * @param {{label: string, rows: {name: any, values: (number|null)[], value: number, note: any, key: string}[]}} props
 */
export function Strips({ label, rows }) {
  return html`<div class="dots strips" role="group" aria-label=${label}>${rows.map(({ key, name, values, value, note }) => {
    const known = /** @type {number[]} */ (values.filter((one) => one !== null));
    const [low, high] = extent([0, ...known]);
    const at = (one) => `${scale(low, high, 0, 100)(one)}%`;
    return html`<div class="dot-row" key=${key}><span class="name">${name}</span>
      <svg width="100%" height="24" aria-hidden="true"><line class="axis" x1="0" x2="100%" y1="12" y2="12" /><line class="zero" x1=${at(0)} x2=${at(0)} y1="0" y2="24" />
        ${known.map((one, place) => html`<line key=${place} class="tick" x1=${at(one)} x2=${at(one)} y1="7" y2="17" />`)}
        <circle class="own" cx=${at(value)} cy="12" r="5" /></svg>
      <span class="reading">${note}</span></div>`;
  })}</div>`;
}

/** All scores of a model's components for a feature, up to 1: heads above the line, FFNs below. @param {{head: number[], ffn: number[], low: number}} props low: where the scale begins */
export function ScoreStrip({ head, ffn, low }) {
  const at = (value) => `${scale(low, 1, 1, 99)(value)}%`;
  const ticks = (kind, values, top) => values.map((value, place) => html`<line key=${`${kind} ${place}`} class=${kind} x1=${at(value)} x2=${at(value)} y1=${top} y2=${top + 10} />`);
  return html`<svg class="scores" width="100%" height="24" role="img" aria-label=${`Highest score of a head ${figure(head[0])}, of an FFN ${figure(ffn[0])}`}>
    <line class="axis" x1="0" x2="100%" y1="12" y2="12" /><line class="zero" x1=${at(0)} x2=${at(0)} y1="0" y2="24" />${ticks("head", head, 1)}${ticks("ffn", ffn, 13)}</svg>`;
}

/** Shares of a whole that fall from left to right, such as a spectrum. @param {{name: string, values: number[], words: string}} props */
export function Columns({ name, values, words }) {
  const most = Math.max(...values, 1e-9);
  const [width, height, step] = [480, 72, 480 / Math.max(values.length, 8)];
  return html`<div class="histogram columns-chart" role="img" aria-label=${`${name}: ${words}`}><svg viewBox=${`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
    ${values.map((value, at) => html`<rect key=${at} class="fires" x=${at * step + 1} width=${step - 2} y=${height - (height - 4) * (value / most)} height=${(height - 4) * (value / most)}>
      <title>${`axis ${at}: ${figure(100 * value)} %`}</title></rect>`)}</svg></div>`;
}

/** A whole in named parts, drawn to scale and written out. @param {{parts: {name: string, value: number, kind: string}[]}} props */
export function Shares({ parts }) {
  const whole = parts.reduce((sum, part) => sum + part.value, 0);
  const present = parts.filter((part) => part.value > 0);
  return html`<div class="shares">
    <svg width="100%" height="8" aria-hidden="true">
      ${present.map((part, i) => html`<rect key=${part.name} class=${part.kind} y="0" height="8"
        x=${`${(100 * present.slice(0, i).reduce((sum, before) => sum + before.value, 0)) / whole}%`}
        width=${`${(100 * part.value) / whole}%`} />`)}
    </svg>
    <p>${parts.map((part) => `${part.value.toLocaleString("en")} ${part.name}`).join(" · ")}</p>
  </div>`;
}
