// Which attention heads read a neuron: through what they do, it reaches the final representation.
import { html } from "../vendor/htm-preact.js";
import { Bar } from "../charts.js";
import { findModel } from "../data.js";
import { fine } from "../format.js";
import { fetchReaders } from "../heads.js";
import { Explained, Failure, useLoaded } from "../parts.js";
import { link } from "../route.js";

export function ReadersSection({ slug, layer, unit }) {
  const told = (findModel(slug).heads?.reads.length ?? 0) > 0;
  const { value, error, stale } = useLoaded(async () => (told ? fetchReaders(slug, layer, unit) : []), [slug, layer, unit]);
  if (!told) return null;
  const rows = stale ? [] : (value ?? []);
  const most = Math.max(...rows.map((row) => row.share), 1e-9);
  return html`<section aria-labelledby="readers"><h2 id="readers">Heads that read it</h2>
    ${error && html`<${Failure} error=${error} />`}
    ${!stale && !error && rows.length === 0 && html`<p class="note">No later attention head reads this neuron: what it adds goes on along the residual path alone.</p>`}
    ${rows.length > 0 && html`<ol class="ranked">${rows.map((row) => html`<li key=${`${row.layer}/${row.head}`}>
        <a class="where" href=${link.head(slug, row.layer, row.head)}>layer ${row.layer}, head ${row.head}</a>
        <span class="line"><${Bar} value=${row.share / most} /></span><b class="value">${fine(row.share)}</b>
        <span class=${row.label === null ? "said note" : "said"}>${row.label === null ? "unlabelled" : `“${row.label}”`}${row.level !== "direct" && html` <span class="note">· ${row.level}</span>`}</span></li>`)}</ol>
      <p class="note"><${Explained} name="Share" column="share" table="head_reads">What the neuron passes through the head's values, against all that the head adds along its first axis<//>; bars are drawn against the first.</p>`}</section>`;
}
