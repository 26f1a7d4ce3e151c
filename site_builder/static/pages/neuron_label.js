// The texts that were tried for a neuron, and how readable it is.
import { html } from "../vendor/htm-preact.js";
import { figure } from "../format.js";
import { Fold } from "../fold.js";
import { Explained, Figure } from "../parts.js";
import { addressOf, link } from "../route.js";

const has = (value) => value !== null && value !== undefined;

/** The texts that were tried, and how readable the neuron is. */
export function LabelSection({ row }) {
  if (!has(row.label_status)) return null;
  const texts = row.label_candidates ?? [];
  return html`<${Fold} id="label" name="Label" hint="the texts that were tried, and how readable the neuron is">
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
    </dl><//>`;
}

/** A neuron's address as a link. */
export function Address({ address }) {
  const [slug, , layer, unit] = address.split("/");
  return html`<a href=${link.neuron(slug, Number(layer), Number(unit))}>${addressOf(slug, Number(layer), Number(unit))}</a>`;
}
