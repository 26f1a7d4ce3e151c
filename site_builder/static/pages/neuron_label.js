// What a neuron is called and how sure that is; the texts that came next; how readable it is.
import { html } from "../vendor/htm-preact.js";
import { figure } from "../format.js";
import { Explained, Figure } from "../parts.js";
import { addressOf, link } from "../route.js";

const has = (value) => value !== null && value !== undefined;

/** A word for how well a label tells firing from silent images that were not used to choose it. */
export const certainty = (/** @type {number|null|undefined} */ auroc) =>
  !has(auroc) ? "unchecked" : Number(auroc) >= 0.9 ? "certain" : Number(auroc) >= 0.75 ? "likely" : "weak";

/** One line under the heading: the label with its certainty, or that there is none. */
export function LabelLine({ row }) {
  if (!has(row.label_status)) return null;
  const [best, ...rest] = row.label_candidates ?? [];
  const numbers = html`<${Explained} name="z" column="label_z">z ${figure(row.label_z)}<//> ·${" "}<${Explained} name="q" column="label_q">q ${figure(row.label_q)}<//> ·${" "}
    <${Explained} name="held-out AUROC" column="label_auroc">held-out AUROC ${figure(row.label_auroc)}<//>`;
  if (row.label_status === "labelled") {
    const next = rest.filter((one) => one.text !== row.label).slice(0, 3);
    return html`<div class="label-line"><a class="label" href=${link.search({ q: row.label })}>${row.label}</a>
      <span class="certainty"><b>${certainty(row.label_auroc)}</b> · ${numbers}</span>
      ${next.length > 0 && html`<span class="next">next: ${next.map((one) => one.text).join(", ")}</span>`}</div>`;
  }
  return html`<div class="label-line"><span class="label none">unlabelled</span>
    <span class="certainty">${best === undefined ? "no image fires this neuron, so no text can be tried" : html`no text passes both checks; the best try is “${best.text}” · ${numbers}`}</span></div>`;
}

/** The texts that were tried, and how readable the neuron is. */
export function LabelSection({ row }) {
  if (!has(row.label_status)) return null;
  const texts = row.label_candidates ?? [];
  return html`<section aria-labelledby="label"><h2 id="label">Label</h2>
    ${texts.length > 0 && html`<div class="scroll" tabindex="0" role="group" aria-label="Texts that were tried"><table class="candidates"><thead><tr><th scope="col">text</th>
      <th scope="col"><${Explained} name="score" column="label_score" /></th><th scope="col"><${Explained} name="z" column="label_z" /></th>
      <th scope="col"><${Explained} name="held-out AUROC" column="label_auroc" /></th></tr></thead>
      <tbody>${texts.map((one) => html`<tr key=${one.text} class=${one.text === row.label ? "chosen" : ""}><th scope="row">${one.text}</th>
        <td>${figure(one.score)}</td><td>${figure(one.z)}</td><td>${figure(one.auroc)}</td></tr>`)}</tbody></table></div>`}
    <dl class="figures">
      <${Figure} name="Clarity" column="clarity" value=${row.clarity} compare="0 as random crops, 1 all alike" />
      <${Figure} name="Polysemanticity" column="polysemanticity" value=${row.polysemanticity} compare="0 one meaning" />
      <${Figure} name="Redundancy" column="redundancy" value=${row.redundancy} compare=${has(row.twin) && html`twin: <${Address} address=${row.twin} />`} />
      <${Figure} name="Texts compared with" column="label_view" value=${row.label_view === "crop" ? "crops" : "whole images"} compare=${row.label_view === "crop" ? "around the strongest patch" : ""} />
      <${Figure} name="List of texts" column="concept_set" value=${html`<code class="hash">${row.concept_set}</code>`} />
      <${Figure} name="Compared by" column="embedder" value=${html`<code class="hash">${row.embedder}</code>`} />
    </dl></section>`;
}

/** A neuron's address as a link. */
export function Address({ address }) {
  const [slug, , layer, unit] = address.split("/");
  return html`<a href=${link.neuron(slug, Number(layer), Number(unit))}>${addressOf(slug, Number(layer), Number(unit))}</a>`;
}
