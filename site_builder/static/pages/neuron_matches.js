// The same neuron in other models, and near-duplicates in its own.
import { html } from "../vendor/htm-preact.js";
import { Bar } from "../charts.js";
import { findModel, site } from "../data.js";
import { fetchMatches } from "../evidence.js";
import { figure } from "../format.js";
import { Explained, Failure, useLoaded } from "../parts.js";
import { link } from "../route.js";
import { isHere, NeuronTile } from "../tiles.js";

export function MatchesSection({ slug, layer, unit }) {
  const { value, error, stale } = useLoaded(() => fetchMatches(slug, layer, unit), [slug, layer, unit]);
  if (findModel(slug).layers[layer].matches === undefined) return null; // said with the other stages that this atlas lacks
  if (error) return html`<section><h2>Same in other models</h2><${Failure} error=${error} /></section>`;
  const rows = stale ? [] : (value ?? []);
  const models = [...new Set(rows.map((row) => row.slug))];
  const cluster = rows.find((row) => row.cluster !== null)?.cluster ?? null;
  const groups = models.map((name) => rows.filter((row) => row.slug === name));
  return html`<section aria-labelledby="matches"><h2 id="matches">Same in other models</h2>
    ${cluster !== null && html`<p class="cluster-line">Part of <a href=${link.cluster(cluster)}>Rosetta cluster ${cluster}</a>: neurons of
      three or more models, every two of them each other's best counterpart.</p>`}
    <div class="counterparts">${groups.filter(([best]) => best.slug !== slug).map((group) => html`<${Counterpart} key=${group[0].slug} rows=${group} />`)}</div>
    ${groups.every(([best]) => best.slug === slug) && !stale && html`<p class="note">${site.models.length === 1
      ? "This atlas holds no other model." : "No other model of this atlas was measured on the same images."}</p>`}
    ${groups.filter(([best]) => best.slug === slug).map((group) => html`<h3 key="own">Near-duplicates in this model</h3>
      <div class="counterparts" key="own tiles">${group.map((row) => html`<${Counterpart} key=${row.partner} rows=${[row]} />`)}</div>`)}
    ${rows.length > 0 && html`<p class="note"><${Explained} name="Correlation" column="correlation" table="neuron_matches" /> of both activation maps over all places of all probe images;
      the tick is <${Explained} name="chance" column="threshold" table="neuron_matches" />: what 99 % of the model's neurons stay below when
      images are shuffled. What is not above it may be chance.</p>`}</section>`;
}

/** The best partner of a model as a tile, the next ones as links. */
function Counterpart({ rows: [best, ...next] }) {
  return html`<${NeuronTile} slug=${best.slug} layer=${best.layer} unit=${best.partner}>
    ${best.label !== null && html`<span class="label-small">${best.label}</span>`}
    <${Correlation} row=${best} />
    ${next.length > 0 && html`<span class="note next">next: ${next.map((row, at) => html`${at > 0 && ", "}${isHere(row.slug, row.layer, row.partner)
      ? html`<a href=${link.neuron(row.slug, row.layer, row.partner)}>${row.layer}/${row.partner}</a>` : `${row.layer}/${row.partner}`} ${figure(row.correlation)}`)}</span>`}
  <//>`;
}

function Correlation({ row }) {
  const chance = row.threshold ?? row.null; // atlases of before publish only the neuron's own null
  return html`<span class="correlation"><span><b>${figure(row.correlation)}</b> <span class="unit">chance ${figure(chance)}</span></span>
    <${Bar} value=${row.correlation} chance=${chance} />
    ${row.mutual === 1 && html`<span class="flag">mutual best</span>`}${row.significant === 0 && html`<span class="unit">not above chance</span>`}</span>`;
}
