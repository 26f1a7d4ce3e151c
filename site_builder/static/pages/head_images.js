// Real images along a head's directions, with what each patch passes through the head: red towards, blue away.
import { html } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { figure, fine, signed } from "../format.js";
import { has } from "../heads.js";
import { useKeys } from "../keys.js";
import { Choice, Explained, usePreference } from "../parts.js";
import { SignedTile } from "../tiles.js";
import { Sources } from "./sources.js";

/** "axis 0 high" -> ["axis 0", "high"]; "text 1" -> ["text 1", ""]. */
const parted = (direction) => {
  const found = /^(.*?) (high|low)$/.exec(direction);
  return found ? [found[1], found[2]] : [direction, ""];
};

export function HeadImages({ slug, layer, head, row, texts, examples }) {
  const [overlay, setOverlay] = usePreference("signed-overlay", "map");
  useKeys({ h: () => setOverlay((last) => (last === "map" ? "off" : "map")) }, []);
  if (examples.length === 0) return null;
  const directions = [...new Set(examples.map((one) => one.direction))];
  const probe = site.probes[examples[0].probe];
  return html`<section aria-labelledby="images" class="images"><h2 id="images">Images along its directions</h2>
    <div class="sortbar"><div><span>Overlay <kbd>h</kbd></span><${Choice} name="Overlay" value=${overlay} options=${[["map", "map"], ["off", "off"]]} onChange=${setOverlay} /></div>
      <div class="legend"><span class="ends">away <span class="scale overlay"></span> towards</span></div></div>
    <div class="directions">${directions.map((direction) => html`<${Direction} key=${`${slug}/${layer}/${head} ${direction}`} direction=${direction} row=${row} texts=${texts} examples=${examples} overlay=${overlay} />`)}</div>
    <p class="note">The figure is the image's <${Explained} name="projection" column="projection" table="head_examples">projection<//>: how far the head's contribution lies along the direction, less its mean.
      The <${Explained} name="map" column="map" table="head_examples">map<//> says which patches bring it there: red towards this end, blue away from it, clear nothing; one scale for both ends of an axis.
      ${probe === undefined ? " This atlas lists no probe images." : !probe.thumbnails ? " The images themselves are not part of this atlas: their licence or the run's choice leaves their names alone." : ""}</p>
    ${probe !== undefined && html`<${Sources} key=${`${slug}/${layer}/${head}`} shown=${examples.filter((one, at) => examples.findIndex(({ image }) => image === one.image) === at)}
      said=${(one) => html`<b>${signed(one.projection)}</b>`} more=${(one) => `${one.direction}; strongest patch ${figure(one.scale)}, tokens that are no patches ${signed(one.elsewhere)}`} />`}</section>`;
}

/** One end of a direction: its images, the strongest first. */
function Direction({ direction, row, texts, examples, overlay }) {
  const [base, end] = parted(direction);
  const full = Math.max(...examples.filter((one) => parted(one.direction)[0] === base).map((one) => one.scale), 1e-12);
  const shown = examples.filter((one) => one.direction === direction);
  return html`<div class="direction"><h3>${title(base, end, row, texts)}</h3>
    ${base === "axis 0" && has(row.axis_classes) && html`<${Classes} classes=${end === "low" ? row.axis_classes.slice(ENDS) : row.axis_classes.slice(0, ENDS)} sign=${end === "low" ? -1 : 1} />`}
    <div class="examples" style=${columnsOf(shown.length)}>${shown.map((one) => html`<${SignedTile} key=${one.image} example=${one} overlay=${overlay} full=${full} />`)}</div></div>`;
}

const ENDS = 3; // classes at each end of the first axis

/** The classes whose images lie furthest towards this end, on the mean. */
function Classes({ classes, sign }) {
  const ordered = [...classes].sort((a, b) => sign * (b.mean - a.mean));
  return html`<p class="note"><${Explained} name="Classes" column="axis_classes" table="heads">classes<//>: ${ordered.map((one, at) => html`${at > 0 && ", "}${one.name} ${signed(sign * one.mean)}`)}</p>`;
}

/** Images side by side on a wide and on a narrow page, in full rows where that can be. */
const columnsOf = (images) => ({ "--columns": images > 6 ? Math.ceil(images / 2) : Math.max(4, images), "--narrow": images % 3 > 0 && images % 4 === 0 ? 4 : 3 });

function title(base, end, row, texts) {
  const [kind, number] = base.split(" ");
  if (kind === "text") {
    const text = texts.find((_, at) => at === Number(number))?.text;
    return html`Along “${text ?? base}”`;
  }
  const share = row.spectrum?.[Number(number)];
  const name = kind === "axis" ? `Axis ${number}` : base;
  return html`${name}${end && `, ${end} end`}${share !== undefined && html` <span class="note">${fine(share)} of its variance</span>`}`;
}
