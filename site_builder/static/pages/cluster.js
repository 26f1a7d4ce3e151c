// Rosetta clusters: neurons of three or more models, every two of them each other's best counterpart.
import { html, useState } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { fetchCluster, fetchClusters, fetchExamples, labelOf } from "../evidence.js";
import { figure, plural } from "../format.js";
import { useKeys } from "../keys.js";
import { fetchPostings } from "../labels.js";
import { nextOverlay, OVERLAYS } from "../maps.js";
import { Choice, Failure, Trail, useLoaded, usePreference, useTitle } from "../parts.js";
import { addressOf, link } from "../route.js";
import { CopyLink } from "../share.js";
import { ExampleTile, NeuronTile } from "../tiles.js";

const SHOWN = 5; // exciting images of a member

const models = (cluster) => new Set(cluster.members.map(([slug]) => slug)).size;
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const words = (cluster) => `${plural(cluster.members.length, "neuron")} of ${plural(models(cluster), "model")}, mean correlation ${figure(mean(cluster.pairs.map((pair) => pair[2])))}`;

export function ClusterPage({ route }) {
  const { number } = route;
  useTitle(`Rosetta cluster ${number}`);
  const { value, error, stale } = useLoaded(() => fetchCluster(number), [number]);
  const [overlay, setOverlay] = usePreference("overlay", "spotlight");
  const last = (site.clusters?.clusters ?? 0) - 1;
  useKeys({
    h: () => setOverlay(nextOverlay), u: () => (location.hash = link.clusters()),
    ArrowLeft: () => number > 0 && (location.hash = link.cluster(number - 1)), ArrowRight: () => number < last && (location.hash = link.cluster(number + 1)),
  }, [number]);
  const cluster = stale ? undefined : value;
  const label = cluster && labelOf(cluster);
  return html`<${Trail} trail=${[["Models", link.home()], ["Rosetta clusters", link.clusters()], [`Cluster ${number}`, null]]} />
    <div class="head"><div><h1>Rosetta cluster ${number} ${label && html`<span class="of">“${label}”</span>`}</h1>
      <p class="lede address">${cluster ? words(cluster) : "\u00a0"} <${CopyLink} route=${route} /></p></div>
      <nav class="steps" aria-label="Clusters">${step(number - 1, "←", last)}${step(number + 1, "→", last)}</nav></div>
    ${error && html`<${Failure} error=${error}><p><a href=${link.home()}>To the start</a></p><//>`}
    ${cluster && html`<div class="sortbar"><div><span>Overlay <kbd>h</kbd></span><${Choice} name="Overlay" value=${overlay} options=${OVERLAYS} onChange=${setOverlay} /></div></div>
      <ol class="members">${cluster.members.map((member) => html`<${Member} key=${member.join()} member=${member} overlay=${overlay} />`)}</ol>
      <section aria-labelledby="pairs"><h2 id="pairs">Correlations</h2><${Pairs} cluster=${cluster} /></section>`}`;
}

const step = (to, sign, last) => (to >= 0 && to <= last ? html`<a href=${link.cluster(to)}>${sign} ${to}</a>` : html`<span aria-disabled="true">${sign} –</span>`);

/** A neuron of the cluster with the images that excite it most: what is the same should be seen here. */
function Member({ member: [slug, layer, unit, label], overlay }) {
  const { value, stale } = useLoaded(() => fetchExamples(slug, layer, unit).catch(() => null), [slug, layer, unit]);
  const shown = (stale ? [] : value ?? []).filter((one) => one.kind === "top").slice(0, SHOWN);
  const full = Math.max(...shown.map((one) => one.high), 0);
  return html`<li><${NeuronTile} slug=${slug} layer=${layer} unit=${unit}>${label !== null && html`<span class="label-small">${label}</span>`}<//>
    <div class="examples">${shown.map((one) => html`<${ExampleTile} key=${one.image} example=${one} overlay=${overlay} full=${full} />`)}</div></li>`;
}

function Pairs({ cluster }) {
  const found = new Map(cluster.pairs.map(([a, b, correlation, chance]) => [`${a} ${b}`, { correlation, chance }]));
  const places = cluster.members.map((_, at) => at);
  const cell = (a, b) => {
    const pair = found.get(`${Math.min(a, b)} ${Math.max(a, b)}`);
    return pair && html`<span title=${`shuffled images reach ${figure(pair.chance)}`}>${figure(pair.correlation)}</span>`;
  };
  const chances = cluster.pairs.map((pair) => pair[3]).filter((chance) => chance !== null);
  return html`<p class="note">Correlation of both activation maps over all places of all probe images. Every two are each other's best counterpart.
      ${chances.length > 0 && ` Shuffled images reach ${figure(Math.max(...chances))} at most.`}</p>
    <div class="scroll" tabindex="0" role="group" aria-label="Correlations"><table class="matrix"><thead><tr><td></td>${places.map((at) => html`<th scope="col" key=${at}>${at + 1}</th>`)}</tr></thead>
      <tbody>${places.map((a) => html`<tr key=${a}><th scope="row">${a + 1} ${addressOf(cluster.members[a][0], cluster.members[a][1], cluster.members[a][2])}</th>${places.map((b) => html`<td key=${b}>${cell(a, b)}</td>`)}</tr>`)}</tbody></table></div>`;
}

export function ClustersPage({ route }) {
  useTitle("Rosetta clusters");
  const about = site.clusters;
  const pages = about === null ? 0 : Math.ceil(about.clusters / about.pack);
  const page = Math.min(Math.max(0, pages - 1), Math.max(0, (Number(route.query.get("page")) || 1) - 1));
  const { value, error, stale } = useLoaded(async () => (about === null ? [] : fetchClusters(page)), [page]);
  return html`<${Trail} trail=${[["Models", link.home()], ["Rosetta clusters", null]]} />
    <h1>Rosetta clusters</h1>
    <p class="lede">${about === null ? "This atlas has none: no neurons of three models are each other's best counterparts, or no match stage has run with several models."
      : `${plural(about.clusters, "cluster")} of neurons of three or more models that fire on the same places of the same images: every two are each other's best counterpart, above what shuffled images reach. Most models first, then the highest correlation.`}</p>
    ${error && html`<${Failure} error=${error} />`}
    <ol class="clusters" start=${page * (about?.pack ?? 0)}>${(stale ? [] : value ?? []).map((cluster, at) => html`<${ClusterRow} key=${at} number=${page * (about?.pack ?? 0) + at} cluster=${cluster} />`)}</ol>
    ${pages > 1 && html`<nav class="pager" aria-label="Pages">${page > 0 && html`<a href=${link.clusters({ page: page > 1 ? page : "" })}>← earlier</a>`}
      <span>page ${page + 1} of ${pages}</span>${page < pages - 1 && html`<a href=${link.clusters({ page: page + 2 })}>later →</a>`}</nav>`}`;
}

const GROUPS = 3, ROWS = 4; // texts, and clusters of a text, at first

/** Clusters whose members have labels with the words that somebody searched for. @param {{texts: import("../labels.js").FoundText[]}} props */
export function FoundClusters({ texts }) {
  const [groups, setGroups] = useState(GROUPS);
  return html`<section class="found-clusters" aria-labelledby="found-clusters"><h2 id="found-clusters">Rosetta clusters <span class="note">${plural(texts.length, "label")}</span></h2>
    ${texts.slice(0, groups).map((text) => html`<${Called} key=${text.number} text=${text} />`)}
    ${texts.length > groups && html`<p><button class="plain" type="button" onClick=${() => setGroups(groups + GROUPS)}>More labels: ${texts.slice(groups, groups + 3).map((one) => one.text).join(", ")} …</button></p>`}</section>`;
}

/** Rosetta clusters with members of that label, those first of which more members have it. @returns {Promise<{number: number, share: number}[]>} */
async function fetchClustersCalled(/** @type {number} */ number) {
  const rows = await fetchPostings(number, /** @type {import("./data.js").SearchIndex} */ (site.cluster_search));
  return rows.map(([, , cluster, share]) => ({ number: cluster, share }));
}

function Called({ text }) {
  const [rows, setRows] = useState(ROWS);
  const { value, error, stale } = useLoaded(async () => {
    const found = await fetchClustersCalled(text.number);
    return { found, clusters: await Promise.all(found.slice(0, rows).map(({ number }) => fetchCluster(number))) };
  }, [text.number, rows]);
  const { found, clusters } = stale || !value ? { found: [], clusters: [] } : value;
  return html`<div class="found-text"><h3>“${text.text}” <span class="note">${plural(text.neurons, "cluster")}</span></h3>
    ${error && html`<${Failure} error=${error} />`}
    <ol class="clusters">${clusters.map((cluster, at) => html`<${ClusterRow} key=${found[at].number} number=${found[at].number} cluster=${cluster} />`)}</ol>
    ${found.length > rows && html`<button class="plain" type="button" onClick=${() => setRows(rows + 20)}>${found.length - rows} more</button>`}</div>`;
}

function ClusterRow({ number, cluster }) {
  const label = labelOf(cluster);
  return html`<li><div class="name"><a href=${link.cluster(number)}>Cluster ${number}${label && `: “${label}”`}</a>
      <p class="note">${words(cluster)}</p></div>
    <div class="shots">${cluster.members.slice(0, 8).map(([slug, layer, unit]) => html`<${NeuronTile} key=${`${slug}/${layer}/${unit}`} slug=${slug} layer=${layer} unit=${unit} bare />`)}</div></li>`;
}
