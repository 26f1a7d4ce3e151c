// Classes: those whose images excite the neuron, those it writes to, and what its ablation costs.
import { html } from "../vendor/htm-preact.js";
import { Bar } from "../charts.js";
import { findModel } from "../data.js";
import { figure, plural, signed, spread } from "../format.js";
import { fetchInversions, pageOf } from "../inversions.js";
import { Explained, Figure, useLoaded } from "../parts.js";

const has = (value) => value !== null && value !== undefined;

/** The three classes it raises most, in one line, for the top of the page. */
export function WritesLine({ row }) {
  const raised = (row.writes_to ?? []).filter((one) => one.logit > 0).slice(0, 3);
  if (raised.length === 0) return null;
  return html`<p class="writes"><${Explained} name="Writes to" column="writes_to" />: ${raised.map((one, at) => html`${at > 0 && ", "}${one.name} <b>${signed(one.logit)}</b>`)}
    <span class="unit"> logit a unit of activation</span></p>`;
}

export function ClassesSection({ slug, row }) {
  const measured = has(row.writes_to) || has(row.effect_note) || has(row.ablation_effect);
  if (!measured && !has(row.exciting_classes)) return null;
  return html`<section aria-labelledby="classes"><h2 id="classes">Classes and effect</h2>
    <div class="columns-2">
      ${has(row.exciting_classes) && html`<div><h3><${Explained} name="Images that excite it" column="exciting_classes" /></h3><${Exciting} classes=${row.exciting_classes} /></div>`}
      ${has(row.writes_to) && html`<div><h3><${Explained} name="Classes it writes to" column="writes_to" /></h3><${Written} slug=${slug} classes=${row.writes_to} /></div>`}
      ${has(row.effect_note) && html`<div><h3>Classes it writes to</h3><p class="note">Not shown: ${row.effect_note}.</p></div>`}
    </div>
    ${measured && html`<dl class="figures"><${Figure} name="Effect of ablation" column="ablation_effect" value=${row.ablation_effect}
      unit=${`± ${spread(row.ablation_se)} logit`} compare=${`${row.ablation_kind}, ${plural(row.ablation_images ?? 0, "image")}; ${verdict(row)}`} /></dl>`}
  </section>`;
}

const verdict = ({ ablation_effect: effect, ablation_se: error }) => {
  if (!has(effect) || !has(error)) return "";
  if (Math.abs(effect) < 2 * error) return "not told from 0";
  return effect > 0 ? "the correct class loses without this neuron" : "the correct class gains without this neuron";
};

function Exciting({ classes }) {
  const most = Math.max(...classes.map((one) => one.mean), 1e-9);
  return html`<table class="bars"><caption>Mean over the images of each class; bars are drawn against the largest.</caption><tbody>${classes.map((one) => html`<tr key=${one.name}><th scope="row">${one.name}</th>
    <td class="line"><${Bar} value=${one.mean / most} /></td><td>${figure(one.mean)}</td><td class="note">${plural(one.images, "image")}</td></tr>`)}</tbody></table>`;
}

function Written({ slug, classes }) {
  const pictures = usePictures(slug);
  const most = Math.max(...classes.map((one) => Math.abs(one.logit)), 1e-9);
  return html`<table class="bars"><caption>Change of the class's logit by a unit of activation; what it lowers is grey, bars are drawn against the largest.</caption><tbody>${classes.map((one) => html`<tr key=${one.name} class=${one.logit < 0 ? "lowered" : ""}><th scope="row">${pictures[one.name] ? html`<a href=${pictures[one.name]}>${one.name}</a>` : one.name}</th>
    <td class="line"><${Bar} value=${Math.abs(one.logit) / most} /></td><td>${signed(one.logit)}</td></tr>`)}</tbody></table>`;
}

/** Addresses of the inversions of a model's classes, by name; none until they are read, and where there are none. */
function usePictures(slug) {
  const { value } = useLoaded(async () => (findModel(slug).inversions ? fetchInversions(slug).catch(() => []) : []), [slug]);
  return Object.fromEntries((value ?? []).filter(({ kind }) => kind === "class").map(({ id, target }) => [target, pageOf(slug, id)]));
}
