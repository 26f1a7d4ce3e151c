// How much a head matters: for the representation, for the answer, among the other heads of its model.
import { html } from "../vendor/htm-preact.js";
import { Columns, Strips } from "../charts.js";
import { count, figure, fine, hundredth, points, spread } from "../format.js";
import { has } from "../heads.js";
import { measuresOf, rankOf } from "../measures.js";
import { Explained, Figure } from "../parts.js";
import { link } from "../route.js";

const LEVELS = {
  direct: html`<b>Direct effect.</b> What this head writes goes along the residual path; the figures are of its own summand of the final representation, everything after it held.`,
  "through attention": html`<b>Through attention.</b> What this head writes never reaches the final representation along the residual path. The figures are what the values of later attention
    pass on of it, attention weights and FFNs held; over heads they do not add up.`,
};

/** The level in plain words, a few sentences, and the head among all of its model. */
export function Matters({ row, all }) {
  return html`<p class="verdict level"><${Explained} name="level" column="level" table="heads">${LEVELS[row.level]}<//></p>
    <p>What it adds is <b>${fine(row.norm_share)}</b> as long as the final representation${has(row.variance_share)
      ? html` and carries <b>${fine(row.variance_share)}</b> of its variance over images` : ""}. ${ablation(row)}</p>
    <${Among} row=${row} all=${all} />`;
}

/** How many ways what it adds varies, and by how much. */
export function Spectrum({ row }) {
  return html`<h3><${Explained} name="Spectrum" column="spectrum" table="heads" /></h3>
    <${Columns} name="Spectrum" values=${row.spectrum} words=${row.spectrum.map((value) => fine(value)).join(", ")} />
    <p class="note">Share of its variance along each principal axis, the first ${fine(row.spectrum[0] ?? 0)}:
      <${Explained} name="dimensions" column="dimensions" table="heads"> <b>${figure(row.dimensions)}</b> dimensions<//>.</p>`;
}

function ablation(row) {
  if (!has(row.ablation_effect)) return html`Replaced by its mean it moves the representation by a cosine distance of <b>${figure(row.ablation_change)}</b>; there is no answer to measure.`;
  const told = Math.abs(row.ablation_effect) >= 2 * (row.ablation_se ?? 0);
  return html`Replaced by its mean, accuracy ${row.ablation_effect < 0 ? "rises" : "falls"} from ${fine(row.accuracy)} by <b>${points(Math.abs(row.ablation_effect)).replace(" ", ` ± ${spread(100 * row.ablation_se)} `)}</b>${told ? "." : ", which is not told from 0."}`;
}

/** A strip a measure: all heads of the model, and where this one lies. */
function Among({ row, all }) {
  const measures = measuresOf({ rows: all, scores: {} });
  const rows = measures.filter((measure) => has(row[measure.key])).map((measure) => ({
    key: measure.key, name: measure.name.replace("ablation: change of the representation", "ablation: change"), values: all.map((one) => one[measure.key] ?? null), value: row[measure.key],
    note: html`${measure.plain(row[measure.key])} <span class="unit">#${rankOf(measure, all, row)}</span>`,
  }));
  return html`<${Strips} label="This head among all of its model" rows=${rows} />
    <p class="note">A tick is a head of this model, the dot is this one, # its place among ${count(all.length)}; the dotted line is 0, each row has its own scale.</p>`;
}

export function HeadNumbers({ row, all }) {
  const fact = (name, column, value, rest = {}) => html`<${Figure} name=${name} column=${column} table="heads" value=${value} ...${rest} />`;
  const share = (value) => (has(value) ? fine(value) : null);
  return html`<dl class="figures">
    ${fact("Length", "norm", row.norm, { unit: "activation" })}
    ${fact("Length, relative", "norm_share", share(row.norm_share), { unit: "of the representation's" })}
    ${fact("Variance", "variance_share", share(row.variance_share), { unit: "of the representation's" })}
    ${fact("Dimensions", "dimensions", row.dimensions, { compare: `of ${row.spectrum.length} leading axes` })}
    ${fact("Effect of ablation", "ablation_effect", has(row.ablation_effect) ? points(row.ablation_effect) : null, { unit: `± ${spread(100 * row.ablation_se)}`, compare: has(row.accuracy) ? `accuracy ${fine(row.accuracy)} with it` : "" })}
    ${fact("Change by ablation", "ablation_change", row.ablation_change, { unit: "cosine distance" })}
    ${fact("Answered by", "answered_by", row.answered_by)}
    ${fact("Explained by texts", "texts_explain", share(row.texts_explain), { unit: "of its variance" })}
    ${fact("Leading feature", "feature", has(row.feature) ? html`<a href=${link.feature(row.feature)}>${row.feature}</a>` : null, { compare: `score ${hundredth(row.feature_score)}` })}
    ${fact("Heads of this model", "head", `${all.length}`, { compare: `${all.filter((one) => one.level === "direct").length} with direct effect` })}
    ${fact("Probe images", "probe_images", count(row.probe_images))}
  </dl>`;
}
