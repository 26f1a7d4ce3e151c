// The search box's page: places and labels; and what an unknown address gets.
import { html } from "../vendor/htm-preact.js";
import { described, site } from "../data.js";
import { count } from "../format.js";
import { jumpMatches } from "../jump.js";
import { findLabels, nearestWords } from "../labels.js";
import { Failure, Lazy, useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";
import { askedOf, FoundLabels, FoundSaid } from "./found_labels.js";

export function SearchPage({ route }) {
  const text = route.query.get("q") ?? "";
  useTitle(text);
  const places = text === "" ? [] : jumpMatches(text, route);
  const { value, error, stale } = useLoaded(() => Promise.all([findLabels(text), findLabels(text, site.head_search)]), [text]);
  const [labels, said] = stale || value === undefined ? [] : value;
  const nothing = places.length === 0 && labels?.length === 0 && said?.length === 0 && text !== "";
  const searched = [site.search && `${count(site.search.neurons)} labels`, site.head_search && `${count(site.head_search.texts)} texts of heads`].filter(Boolean);
  return html`<h1>${text === "" ? (searched.length > 0 ? "Search" : "Jump to a neuron") : `“${text}”`}</h1>
    ${places.length > 0 && html`<ul class="found">${places.map((place) => html`<li key=${place.href}>
      <a href=${place.href}>${place.title}</a> <span class="note">${place.note}</span>
      ${place.problem !== "" && html`<p>${place.problem}</p>`}</li>`)}</ul>`}
    ${error && html`<${Failure} error=${error} />`}
    ${labels !== undefined && labels.length > 0 && html`<${FoundLabels} key=${text} text=${text} labels=${labels} asked=${askedOf(route.query)} />`}
    ${said !== undefined && said.length > 0 && html`<${FoundSaid} key=${`heads ${text}`} texts=${said} model=${route.query.get("m") ?? ""} />`}
    ${text !== "" && site.models.some(({ inversions }) => inversions) && html`<${Lazy} load=${() => import("./inversions.js")} name="FoundInversions" props=${{ text, model: route.query.get("m") ?? "" }} />`}
    ${nothing && html`<${Meant} text=${text} />`}
    ${nothing && html`<p>No model of this atlas has that name${searched.length > 0 ? `, and none of its ${searched.join(" or ")} has ${/\s/.test(text.trim()) ? "these words" : "this word"}.` : "."}</p>`}
    ${site.search === null && html`<p class="note">This atlas has no labels to search. Run <code>neuron-atlas run --stages label</code> to add them.</p>`}
    ${(nothing || text === "" || places.length > 0) && html`<${Forms} />`}`;
}

/** The nearest words that would find something. */
function Meant({ text }) {
  const { value, stale } = useLoaded(async () => [...new Set(await Promise.all([site.search, site.head_search].map((index) => nearestWords(text, index).catch(() => ""))))].filter(Boolean), [text]);
  return !stale && value !== undefined && value.length > 0 && html`<p class="meant">Did you mean ${value.map((words, at) => html`${at > 0 && " or "}<a href=${link.search({ q: words })}>${words}</a>`)}?</p>`;
}

export function UnknownPage({ route }) {
  useTitle("Unknown address");
  return html`<h1>Unknown address</h1>
    <p>This site has no page <code>#/${route.hash}</code>.</p><${Forms} />`;
}

/** The addresses that work, with examples of this atlas. */
function Forms() {
  const model = site.models.find((entry) => entry.described > 0);
  const headed = site.models.find((entry) => entry.heads !== null);
  const examples = [...(model ? ofNeurons(model) : []), ...(headed ? ofHeads(headed) : []),
    ...(site.search || site.head_search ? [["words of a label or a head's text, or how they begin", "stripes", link.search({ q: "stripes" })]] : [])];
  if (examples.length === 0) return html`<p><a href=${link.home()}>To the start</a></p>`;
  return html`<p>What the box above takes:</p>
    <dl class="forms">${examples.map(([name, text, href]) => html`<div key=${name}><dt>${name}</dt>
      <dd><a href=${href}><code>${text}</code></a></dd></div>`)}</dl>
    <p>On a model's page <code>3/41</code> is enough, on a layer's page the unit alone. <a href=${link.home()}>All models</a></p>`;
}

function ofNeurons({ slug, layers }) {
  const layer = layers.findIndex((entry) => described(entry) > 0);
  const unit = layers[layer].ranges[0][0];
  return [
    ["a neuron", `${slug}/mlp/${layer}/${unit}`, link.neuron(slug, layer, unit)],
    ["a layer", `${slug}/${layer}`, link.layer(slug, layer)],
    ["a model, or part of its name", slug, link.model(slug)],
  ];
}

function ofHeads({ slug, heads }) {
  const layer = heads.layers.findLastIndex((count) => count > 0);
  const feature = site.features?.list[0]?.name;
  return [
    ["an attention head", `${slug}/head/${layer}/0`, link.head(slug, layer, 0)],
    ["the heads of a model", `${slug}/head`, link.heads(slug)],
    ...(feature === undefined ? [] : [["a feature", feature, link.feature(feature)]]),
  ];
}
