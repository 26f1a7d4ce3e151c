// The head of a neuron's page: what it is called, the verdict in one sentence, and how sure the label is.
import { html } from "../vendor/htm-preact.js";
import { hasExamples } from "../evidence.js";
import { figure } from "../format.js";
import { Explained } from "../parts.js";
import { link } from "../route.js";
import { certainty, telling } from "../trust.js";

const has = (value) => value !== null && value !== undefined;

/** The heading: the label where there is one, and where the neuron is. @param {{row: any, slug: string, layer: number, unit: number}} props row: undefined while it loads */
export function Title({ row, slug, layer, unit }) {
  if (row?.label_status !== "labelled") return html`<h1>Unit ${unit} <span class="of">layer ${layer} of ${slug}</span></h1>`;
  return html`<h1><a class="label" href=${link.search({ q: row.label })}>${row.label}</a> <span class="of">unit ${unit}, layer ${layer} of ${slug}</span></h1>`;
}

/** One sentence under the heading. */
export const Tells = ({ row, slug, layer }) => html`<p class="tells">${row === undefined ? "\u00a0" : telling(row, hasExamples(slug, layer))}</p>`;

/** How certain the label is and what came next; or what the best try was. */
export function LabelLine({ row }) {
  if (!has(row.label_status)) return null;
  const [best, ...rest] = row.label_candidates ?? [];
  const numbers = html`<${Explained} name="z" column="label_z">z ${figure(row.label_z)}<//> ·${" "}<${Explained} name="q" column="label_q">q ${figure(row.label_q)}<//> ·${" "}
    <${Explained} name="held-out AUROC" column="label_auroc">held-out AUROC ${figure(row.label_auroc)}<//>`;
  if (row.label_status === "labelled") {
    const next = rest.filter((one) => one.text !== row.label).slice(0, 3);
    return html`<div class="label-line"><span class="certainty"><b>${certainty(row.label_auroc)}</b> · ${numbers}</span>
      ${next.length > 0 && html`<span class="next">next: ${next.map((one) => one.text).join(", ")}</span>`}</div>`;
  }
  return html`<div class="label-line"><span class="certainty">unlabelled: ${best === undefined ? "no image fires this neuron, so no text can be tried" : html`no text passes both checks; the best try is “${best.text}” · ${numbers}`}</span></div>`;
}
