// All neurons of a layer on one wall; sort and filter live in the address.
import { html, useMemo } from "../vendor/htm-preact.js";
import { fetchLayer, fetchModel, findModel } from "../data.js";
import { count, grids, plural } from "../format.js";
import { useKeys } from "../keys.js";
import { Choice, Failure, Trail, useLoaded } from "../parts.js";
import { link } from "../route.js";
import { useTitle } from "../title.js";
import { Wall } from "../wall.js";

const SORTS = [["robust", "under fresh transforms"], ["activation", "activation"], ["unit", "unit"]];
const SHOWS = [["all", "all"], ["active", "active"], ["inactive", "inactive"]];

export function LayerPage({ route }) {
  const { slug, layer } = route;
  useTitle(`${slug}, layer ${layer}`);
  const wall = useLoaded(() => fetchLayer(slug, layer), [slug, layer]);
  const model = useLoaded(() => fetchModel(slug), [slug]);
  const sort = choice(SORTS, route.query.get("sort"));
  const show = choice(SHOWS, route.query.get("show"));
  const set = (next) => location.replace(link.layer(slug, layer, state({ sort, show, ...next })));
  useKeys({ u: () => (location.hash = link.model(slug)) }, [slug]);
  const error = wall.error ?? model.error;
  const current = wall.stale ? undefined : wall.value;
  const site = model.stale ? undefined : model.value?.sites[layer];
  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], [`Layer ${layer}`, null]]} />
    <${Head} slug=${slug} layer=${layer} site=${site} />
    ${error && html`<${Failure} error=${error}><p><a href=${link.model(slug)}>All layers of ${slug}</a></p><//>`}
    ${!error && html`<${Bar} sort=${sort} show=${show} table=${current} set=${set} />`}
    ${!error && current && html`<${Neurons} slug=${slug} layer=${layer} table=${current} sort=${sort} show=${show} />`}`;
}

const choice = (options, asked) => (options.some(([key]) => key === asked) ? asked : options[0][0]);

/** Query string of what differs from the defaults. */
function state({ sort, show }) {
  const query = new URLSearchParams();
  if (sort !== SORTS[0][0]) query.set("sort", sort);
  if (show !== SHOWS[0][0]) query.set("show", show);
  return query.toString();
}

function Head({ slug, layer, site }) {
  const layers = findModelLayers(slug);
  const step = (to, text) => (layers[to]?.folder ? html`<a href=${link.layer(slug, to)}>${text}</a>` : html`<span aria-disabled="true">${text}</span>`);
  return html`<div class="head"><div><h1>Layer ${layer} <span class="of">of ${slug}</span></h1>
      <p class="lede">${site ? html`<code>${site.path}</code> · ${grids(site.grids)} tokens · ${plural(site.width, "unit")} · ${site.activation_function}` : "\u00a0"}</p></div>
    <nav class="steps" aria-label="Layers">${step(layer - 1, "↑ earlier")}${step(layer + 1, "↓ later")}</nav></div>`;
}

function findModelLayers(slug) {
  try {
    return findModel(slug).layers;
  } catch {
    return []; // the failure itself is told below the head
  }
}

function Bar({ sort, show, table, set }) {
  const inactive = table?.inactive.length;
  return html`<div class="sortbar">
    <div><span>Order by</span><${Choice} name="Order by" value=${sort} options=${SORTS} onChange=${(key) => set({ sort: key })} /></div>
    <div><span>Show</span><${Choice} name="Show" value=${show} onChange=${(key) => set({ show: key })}
      options=${table ? SHOWS.map(([key, label]) => [key, `${label} ${count({ all: table.unit.length, inactive, active: table.unit.length - inactive }[key])}`]) : SHOWS} /></div>
  </div>`;
}

function Neurons({ slug, layer, table, sort, show }) {
  const order = useMemo(() => ordered(table, sort, show), [table, sort, show]);
  if (order.length === 0) {
    return html`<p class="note">${show === "inactive" ? "No neuron of this layer is inactive." : "No neuron of this layer is active."}</p>`;
  }
  return html`<${Wall} key=${`${sort} ${show}`} slug=${slug} layer=${layer} table=${table} order=${order} />`;
}

/** Positions in the table, strongest first; absent figures last, ties by unit. */
export function ordered(table, sort, show) {
  const inactive = new Set(table.inactive);
  const kept = table.unit.map((_, at) => at).filter((at) => show === "all" || inactive.has(at) === (show === "inactive"));
  if (sort === "unit") return kept;
  if (sort === "robust") return kept.sort((a, b) => table.thumb[a] - table.thumb[b]);
  const value = (at) => table.activation[at] ?? -Infinity;
  return kept.sort((a, b) => value(b) - value(a) || a - b);
}
