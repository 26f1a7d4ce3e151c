// Heads by the texts that explain them, over the whole atlas: a group a text, those first of which it explains most.
import { html, useState } from "../vendor/htm-preact.js";
import { Bar } from "../charts.js";
import { site } from "../data.js";
import { fine, plural } from "../format.js";
import { fetchPostings } from "../labels.js";
import { Failure, useLoaded } from "../parts.js";
import { link } from "../route.js";

const [GROUPS, ROWS] = [6, 8];

/** Heads that a text describes. @param {{texts: import("../labels.js").FoundText[], model: string}} props */
export function FoundSaid({ texts, model }) {
  const [groups, setGroups] = useState(GROUPS);
  return html`<section class="found-heads" aria-labelledby="found-heads"><h2 id="found-heads">Attention heads <span class="note">${plural(texts.length, "text")}</span></h2>
    ${texts.slice(0, groups).map((text) => html`<${SaidGroup} key=${text.number} text=${text} model=${model} />`)}
    ${texts.length > groups && html`<p><button class="plain" type="button" onClick=${() => setGroups(groups + GROUPS)}>More texts: ${texts.slice(groups, groups + 3).map((one) => one.text).join(", ")} …</button></p>`}</section>`;
}

function SaidGroup({ text, model }) {
  const { value, error, stale } = useLoaded(() => fetchSaid(text.number), [text.number]);
  const [rows, setRows] = useState(ROWS);
  const found = (stale ? [] : value ?? []).filter((one) => model === "" || one.slug === model);
  return html`<div class="found-text"><h3>“${text.text}” <span class="note">${found.length > 0 ? plural(found.length, "head") : stale ? "" : "no head of this model"}</span></h3>
    ${error && html`<${Failure} error=${error} />`}
    <ol class="ranked">${found.slice(0, rows).map((one) => html`<li key=${`${one.slug}/${one.layer}/${one.head}`}><a class="where" href=${link.head(one.slug, one.layer, one.head)}><b>${one.slug}</b> layer ${one.layer}, head ${one.head}</a>
      <span class="line"><${Bar} value=${one.explained} /></span><b class="value">${fine(one.explained)}</b></li>`)}</ol>
    ${found.length > rows && html`<button class="plain" type="button" onClick=${() => setRows(rows + 40)}>${found.length - rows} more</button>`}</div>`;
}

/** Heads that a text describes, those first of whose variance it explains most. @returns {Promise<{slug: string, layer: number, head: number, explained: number}[]>} */
async function fetchSaid(/** @type {number} */ number) {
  const rows = await fetchPostings(number, /** @type {import("./data.js").SearchIndex} */ (site.head_search));
  return rows.map(([model, layer, head, explained]) => ({ slug: site.models[model].slug, layer, head, explained }));
}
