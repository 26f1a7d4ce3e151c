// A head in words: the texts that explain what it adds, the features it matters for, the neurons it reads.
import { html, useState } from "../vendor/htm-preact.js";
import { SignedBar, Waterfall } from "../charts.js";
import { figure, fine, hundredth, plural, points } from "../format.js";
import { figuresWords, has } from "../heads.js";
import { Explained } from "../parts.js";
import { link } from "../route.js";
import { NeuronTile } from "../tiles.js";

const SHOWN = 8; // texts, until all are asked for

/** The heading: the label where there is one, and where the head is. @param {{row: any, slug: string, layer: number, head: number}} props row: undefined while it loads */
export function HeadTitle({ row, slug, layer, head }) {
  if (!has(row?.label)) return html`<h1>Head ${head} <span class="of">attention layer ${layer} of ${slug}</span></h1>`;
  return html`<h1><a class="label" href=${link.search({ q: row.label })}>${row.label}</a> <span class="of">head ${head}, attention layer ${layer} of ${slug}</span></h1>`;
}

/** One plain sentence: what the head adds, and what it costs to take that away. */
export function headTelling(row, texts) {
  const adds = has(row.label) ? `What it adds varies most with ${row.label}` : texts.length > 0 ? "No one text says what it adds" : "Nobody has looked for words for what it adds";
  if (!has(row.ablation_effect)) return `${adds}; without it the representation moves by a cosine distance of ${figure(row.ablation_change)}.`;
  if (Math.abs(row.ablation_effect) < 2 * (row.ablation_se ?? 0)) return `${adds}; what taking it away does to the accuracy is not told from 0.`;
  return `${adds}; without it the accuracy ${row.ablation_effect < 0 ? "rises" : "falls"} by ${points(Math.abs(row.ablation_effect))}.`;
}

/** How much the label explains and what came next; or what the best try was. */
export function HeadLabel({ row, texts }) {
  const [best, ...next] = [...texts].sort((a, b) => b.explained - a.explained);
  if (!has(row.label)) {
    return html`<div class="label-line"><span class="certainty">unlabelled: ${best === undefined ? "this atlas has no texts for this head"
      : html`no text explains a tenth of what it adds; the best, “${best.text}”, explains ${fine(best.explained)}`}</span></div>`;
  }
  return html`<div class="label-line"><span class="certainty">explains <b>${fine(best?.explained)}</b> of its variance, <${Explained} name="all texts" column="texts_explain" table="heads">all ${texts.length} texts ${fine(row.texts_explain)}<//></span>
    ${next.length > 0 && html`<span class="next">next: ${next.slice(0, 3).map((one) => one.text).join(", ")}</span>`}</div>`;
}

/** The texts in the order in which they were chosen; bars follow each other like a flight of stairs. */
export function Texts({ row, texts }) {
  const [all, setAll] = useState(false);
  if (texts.length === 0) return html`<p class="note">This atlas has no texts for this head: no list of texts, or no CLIP to compare them in, was given to the run.</p>`;
  const shown = all ? texts : texts.slice(0, SHOWN);
  return html`<ol class="texts">${shown.map((one) => html`<li key=${one.text}><a href=${link.search({ q: one.text })}>${one.text}</a><b>${fine(one.explained)}</b>
      <${Waterfall} from=${one.cumulative - one.explained} to=${one.cumulative} /></li>`)}</ol>
    ${texts.length > shown.length && html`<button class="plain" type="button" onClick=${() => setAll(true)}>All ${texts.length} texts</button>`}
    <p class="note"><${Explained} name="Explained" column="explained" table="head_texts">Share of the variance that each text explains<//>, in the order in which
      TextSpan chose them; all ${texts.length} together explain <b>${fine(row.texts_explain)}</b>.</p>`;
}

/** How much the head matters for each feature, by correlation, and what its ablation costs there. */
export function FeaturesSection({ row, features }) {
  if (features.length === 0) return null;
  const ordered = [...features].sort((a, b) => b.score - a.score);
  const low = Math.min(0, ordered[ordered.length - 1].score);
  return html`<section aria-labelledby="features"><h2 id="features">Features</h2>
    <ol class="feature-rows">${ordered.map((one) => html`<li key=${`${one.feature_set} ${one.feature}`}>
      <a href=${link.feature(one.feature)}>${one.feature}</a><${SignedBar} value=${one.score} low=${low} high=${1} /><b>${hundredth(one.score)}</b>
      <span class="note">${[`${ordinal(one.rank + 1)} of the model's components`, ...figuresWords(one)].join(" · ")}</span></li>`)}</ol>
    <p class="note"><${Explained} name="Score" column="score" table="head_features">The bar is the score<//>, 1 at most; <${Explained} name="selectivity" column="selectivity" table="head_features">selectivity<//> says whether it is this feature alone. What
      ablation does to the <${Explained} name="margin" column="ablation_margin" table="head_features">margin of the right answer<//> (σ: its standard deviation) and to the
      ${" "}<${Explained} name="accuracy" column="ablation_effect" table="head_features">accuracy<//>, and how many images it <${Explained} name="flips" column="ablation_flips" table="head_features">flips<//>, is measured apart: a score alone does not prove a cause.${row.level !== "direct" && " All are those of this head's level, through attention."}</p></section>`;
}

/** The neurons whose activations the head takes up most. */
export function NeuronsRead({ slug, neurons }) {
  if (neurons.length === 0) return null;
  return html`<section aria-labelledby="neurons"><h2 id="neurons">Neurons it reads most</h2>
    <div class="counterparts">${neurons.map((one) => html`<${NeuronTile} key=${`${one.layer}/${one.neuron}`} slug=${slug} layer=${one.layer} unit=${one.neuron} short>
      ${one.label !== null && html`<span class="label-small">${one.label}</span>`}<span class="note">${fine(one.share)}</span><//>`)}</div>
    <p class="note"><${Explained} name="Share" column="share" table="head_reads">What the neuron passes through the head's values, against all that the head adds along its first axis<//>; ${plural(neurons.length, "neuron")} with the largest share.</p></section>`;
}

export const ordinal = (/** @type {number} */ place) => {
  const last = place % 100 >= 11 && place % 100 <= 13 ? 0 : place % 10;
  return `${place}${["th", "st", "nd", "rd"][last] ?? "th"}`;
};
