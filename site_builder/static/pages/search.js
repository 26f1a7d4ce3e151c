// The search box's page: places and labels.
import { html } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { count } from "../format.js";
import { jumpMatches } from "../jump.js";
import { findLabels } from "../labels.js";
import { Failure, Lazy, useLoaded, useTitle } from "../parts.js";
import { askedOf, FoundLabels } from "./found_labels.js";

const more = () => import("./search_more.js");

export function SearchPage({ route }) {
  const text = route.query.get("q") ?? "";
  useTitle(text);
  const places = text === "" ? [] : jumpMatches(text, route);
  const { value, error, stale } = useLoaded(() => Promise.all([site.search, site.head_search, site.cluster_search].map((index) => findLabels(text, index))), [text]);
  const [labels, said, called] = stale || value === undefined ? [] : value;
  const nothing = places.length === 0 && labels?.length === 0 && said?.length === 0 && text !== "";
  const searched = [site.search && `${count(site.search.neurons)} labels`, site.head_search && `${count(site.head_search.texts)} texts of heads`].filter(Boolean);
  return html`<h1>${text === "" ? (searched.length > 0 ? "Search" : "Jump to a neuron") : `“${text}”`}</h1>
    ${places.length > 0 && html`<ul class="found">${places.map((place) => html`<li key=${place.href}>
      <a href=${place.href}>${place.title}</a> <span class="note">${place.note}</span>
      ${place.problem !== "" && html`<p>${place.problem}</p>`}</li>`)}</ul>`}
    ${error && html`<${Failure} error=${error} />`}
    ${labels !== undefined && labels.length > 0 && html`<${FoundLabels} key=${text} text=${text} labels=${labels} asked=${askedOf(route.query)} />`}
    ${said !== undefined && said.length > 0 && html`<${Lazy} key=${`heads ${text}`} load=${() => import("./found_heads.js")} name="FoundSaid" props=${{ texts: said, model: route.query.get("m") ?? "" }} />`}
    ${called !== undefined && called.length > 0 && html`<${Lazy} key=${`clusters ${text}`} load=${() => import("./cluster.js")} name="FoundClusters" props=${{ texts: called }} />`}
    ${text !== "" && site.models.some(({ inversions }) => inversions) && html`<${Lazy} load=${() => import("./inversions.js")} name="FoundInversions" props=${{ text, model: route.query.get("m") ?? "" }} />`}
    ${site.search?.near && (nothing || (labels !== undefined && labels.length > 0)) && html`<${Lazy} key=${`near ${text}`} load=${more} name="Near" props=${{ text }} />`}
    ${nothing && html`<${Lazy} key=${text} load=${more} name="Nothing" props=${{ text, searched }} />`}
    ${site.search === null && html`<p class="note">This atlas has no labels to search. Run <code>neuron-atlas run --stages label</code> to add them.</p>`}
    ${(nothing || text === "" || places.length > 0) && html`<${Lazy} load=${more} name="Forms" props=${{}} />`}`;
}
