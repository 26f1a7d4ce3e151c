// What the picture reaches, against what: its start, changed copies, real images, the other neurons of the layer.
import { html } from "../vendor/htm-preact.js";
import { DotPlot, Histogram } from "../charts.js";
import { count, figure, percent, spread } from "../format.js";
import { Explained, Figure } from "../parts.js";
import { against, sentence } from "../trust.js";

const has = (value) => value !== null && value !== undefined;

/** In a few lines and one drawing: how far to trust the picture. */
export function Trust({ row, summary, layer }) {
  const rows = [
    { name: "start", value: row.activation_start, kind: "start" },
    { name: "this picture", value: row.activation, kind: "end" },
    has(row.natural_mean) ? { name: "changed a little", value: row.natural_mean, kind: "fresh" }
      : { name: "recoloured, shifted", value: row.robust_mean, spread: row.robust_std, kind: "fresh",
        note: `${figure(row.robust_mean)} ± ${spread(row.robust_std)}` },
    { name: "best real image", value: row.mean_max, kind: "real" },
    { name: `layer ${layer}`, band: summary.quantiles, kind: "layer", note: `median ${figure(summary.quantiles[2])}` },
  ];
  return html`${has(row.verdict) && html`<p class="verdict"><${Explained} name="verdict" column="verdict"><b>${sentence(row)}</b> ${reason(row)}<//></p>`}
    <p class="verdict">${reached(row)}</p>
    ${against(row) !== null && html`<p class="verdict"><${Explained} name="percentile" column="percentile">${againstImages(row)}<//></p>`}
    ${has(row.natural_kinds) && row.natural_kinds.length > 0 && html`<${Kinds} kinds=${row.natural_kinds} />`}
    <figure><${DotPlot} label="Activation on one scale" rows=${rows} />
    <figcaption>Activation, mean over patch tokens, on one scale; the line is 0. The bar of layer ${layer} holds half, its thin
      part nine tenths of the activations that the ${count(summary.described)} pictures of this layer reach.</figcaption></figure>
    <p class="rank">Rank <b>${count(row.rank)}</b> of ${count(summary.described)} in its layer by activation.</p>
    ${has(row.rescue) && html`<p class="rank">The first attempt reached too little; this picture was found with <b>${row.rescue}</b>.</p>`}`;
}

/** The picture among real images, by both measures: the mean over patch tokens, and the strongest patch. */
function againstImages(row) {
  const images = count(row.probe_images);
  const times = (ratio) => (has(ratio) ? html`<b>${figure(ratio)}</b> times the best` : "no image fires the neuron");
  const both = html`mean over patches ${times(row.ratio_to_best)}, strongest patch ${times(row.peak_ratio)}`;
  const above = {
    both: html`More than every one of ${images} real images: ${both}.`,
    mean: html`More than every one of ${images} real images by the mean over patches, not at the strongest patch: ${both}.`,
    peak: html`More than every one of ${images} real images at the strongest patch, not by the mean over patches: ${both}.`,
    neither: html`Less than the best of ${images} real images: ${both}. By the mean, more than <b>${figure(row.percentile)} %</b> of them.`,
  };
  return above[against(row) ?? "neither"];
}

const IN_WORDS = { shift: "shifted", turn: "turned, zoomed", colour: "recoloured", blur: "blurred", noise: "noisy" };

/** What is kept under each kind of natural change. */
function Kinds({ kinds }) {
  return html`<p class="note">Kept when ${kinds.map(({ kind, kept }, at) => html`${at > 0 && " · "}${IN_WORDS[kind] ?? kind} <b>${has(kept) ? percent(Math.max(0, kept)) : "–"}</b>`)}</p>`;
}

/** The reason of the verdict as a sentence of its own. */
const reason = (row) => (has(row.verdict_reason) ? `${row.verdict_reason[0].toUpperCase()}${row.verdict_reason.slice(1)}.` : "");

/** How rarely real images fire the neuron, and the picture among them, at the strongest patch. */
export function Fires({ row }) {
  if (!has(row.histogram)) return null;
  const mark = row.activation_peak ?? null;
  const rate = has(row.fires_on) ? html`<${Explained} name="fires on" column="fires_on">Fires on <b>${percent(row.fires_on)}</b> of images<//>`
    : "Fires on no image: no patch of any probe image is over 0.";
  return html`<div class="fires-on"><p class="verdict">${rate}</p>
    <figure><${Histogram} histogram=${row.histogram} mark=${mark} from=${has(row.fires_on) ? row.peak_max / 2 : null} name="Images by their strongest patch" />
    <figcaption>Images by their strongest patch; heights are square roots of counts.${has(row.fires_on) && " Blue: over half of the strongest."}
      ${mark !== null && html` The pin is the picture: <b>${figure(mark)}</b>${has(row.peak_ratio) && html`, ${figure(row.peak_ratio)} times the strongest image`}.`}</figcaption></figure></div>`;
}

/** How far the optimization came; where nobody has judged the picture, also what the published transforms leave of it. */
function reached(row) {
  if (row.status === "inactive") {
    return html`It reaches <b>${figure(row.activation)}</b>, from ${figure(row.activation_start)} at the start: this neuron did not fire.`;
  }
  const kept = !has(row.verdict) && has(row.robust_mean) && row.activation > 0 ? row.robust_mean / row.activation : null;
  return html`It ${row.activation > row.activation_start ? "drives" : "brings"} the neuron to <b>${figure(row.activation)}</b>, from ${figure(row.activation_start)} at the start.${" "}
    ${kept !== null && html`Under ${row.robust_draws} fresh random shifts of place and colour ${kept <= 0 ? html`<b>nothing</b> of that remains.`
      : html`<b>${percent(kept)}</b> of that ${kept < 1 ? "remains" : "is reached"}.`}`}`;
}

export function Numbers({ row, summary }) {
  return html`<dl class="figures">${row.status !== null && html`<${OfPicture} row=${row} summary=${summary} />`}<${Evidence} row=${row} /></dl>`;
}

/** What the picture reaches, and what it cost. */
function OfPicture({ row, summary }) {
  const kept = (value, whole) => (has(value) && whole > 0 ? `${percent(value / whole)} of the clean picture's` : "");
  return html`<${Figure} name="Activation" column="activation" value=${row.activation} unit="mean over patches"
        compare=${`median of the layer ${figure(summary.quantiles[2])}, start ${figure(row.activation_start)}`} />
      <${Figure} name="Strongest patch" column="activation_peak" value=${row.activation_peak} unit="activation"
        compare=${`start ${figure(row.activation_start_peak)}`} />
      ${has(row.verdict) && html`<${Figure} name="Verdict" column="verdict" value=${row.verdict} compare=${row.verdict_reason} />
      <${Figure} name="Under natural changes" column="natural_mean" value=${row.natural_mean} unit="mean over patches" compare=${has(row.natural_kept) ? `${percent(row.natural_kept)} of the stored picture's` : ""} />
      <${Figure} name="Strongest patch, changed" column="natural_peak" value=${row.natural_peak} unit="activation" compare=${has(row.natural_kept_peak) ? `${percent(row.natural_kept_peak)} of the stored picture's` : ""} />`}
      <${Figure} name="Recoloured and shifted, as published" column="robust_mean" value=${row.robust_mean} unit=${`± ${spread(row.robust_std)}, ${row.robust_draws} draws`}
        compare=${kept(row.robust_mean, row.activation)} />
      <${Figure} name="Strongest patch, so" column="robust_peak" value=${row.robust_peak} unit="activation" compare=${kept(row.robust_peak, row.activation_peak)} />
      <${Figure} name="Picture as stored" column="activation_stored" value=${row.activation_stored} unit="mean over patches" compare=${kept(row.activation_stored, row.activation)} />
      <${Figure} name="Status" column="status" value=${row.status} compare=${`${count(summary.active)} active, ${count(summary.inactive)} inactive in this layer`} />
      <${Figure} name="Rescue" column="rescue" value=${row.rescue ?? "none"} compare=${has(row.rescue) ? "" : "a neuron gets another start where the first reaches less than a generated picture, or nothing"} />
      <${Figure} name="Steps" column="steps" value=${row.steps} unit="steps" compare=${`${count(row.image_steps ?? 0)} forward-backward passes of one image`} />
      <${Figure} name="Time" column="seconds" value=${row.seconds} unit="s" compare="share of its batch, on the machine of the run" />`;
}

/** What the probe pass measured. */
function Evidence({ row }) {
  if (!has(row.probe_images)) return null;
  const images = `${count(row.probe_images)} images`;
  return html`<${Figure} name="Fires on" column="fires_on" value=${has(row.fires_on) ? percent(row.fires_on) : null} unit="of images" compare=${`of ${images}`} />
    <${Figure} name="Active patches" column="fraction_active" value=${percent(row.fraction_active)} unit="of patch tokens" compare=${`of ${images}`} />
    <${Figure} name="Best real image" column="mean_max" value=${row.mean_max} unit="mean over patches" compare=${has(row.activation) ? `the picture ${figure(row.activation)}` : ""} />
    <${Figure} name="Strongest real patch" column="peak_max" value=${row.peak_max} unit="activation" compare=${has(row.activation_peak) ? `the picture ${figure(row.activation_peak)}` : ""} />
    ${has(row.percentile) && html`<${Figure} name="Percentile" column="percentile" value=${row.percentile} unit="% of images below the picture" compare=${has(row.ratio_to_best) ? `${figure(row.ratio_to_best)} times the best image` : ""} />
    <${Figure} name="Ratio at the strongest patch" column="peak_ratio" value=${row.peak_ratio} unit="times the best image" />`}
    <${Figure} name="Over all patches" column="token_mean" value=${row.token_mean} unit=${`± ${spread(row.token_std)}`} compare="mean and standard deviation" />
    <${Figure} name="Kurtosis" column="token_kurtosis" value=${row.token_kurtosis} compare="3 for a normal distribution" />
    <${Figure} name="Quantiles of the strongest patch" column="peak_quantiles" compare="at 1, 5, 25, 50, 75, 90, 95, 99 and 99.9 % of images"
      value=${row.peak_quantiles}>${(row.peak_quantiles ?? []).map(figure).join(", ")}<//>`;
}
