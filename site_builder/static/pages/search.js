// The search box's page: places and labels; and what an unknown address gets.
import { html } from "../vendor/htm-preact.js";
import { described, site } from "../data.js";
import { count } from "../format.js";
import { jumpMatches } from "../jump.js";
import { findLabels } from "../labels.js";
import { Failure, useLoaded } from "../parts.js";
import { link } from "../route.js";
import { useTitle } from "../title.js";
import { FoundLabels } from "./found_labels.js";

export function SearchPage({ route }) {
  const text = route.query.get("q") ?? "";
  useTitle(text);
  const places = text === "" ? [] : jumpMatches(text, route);
  const { value, error, stale } = useLoaded(() => findLabels(text), [text]);
  const labels = stale ? undefined : value;
  const nothing = places.length === 0 && labels?.length === 0 && text !== "";
  return html`<h1>${text === "" ? (site.search ? "Search" : "Jump to a neuron") : `“${text}”`}</h1>
    ${places.length > 0 && html`<ul class="found">${places.map((place) => html`<li key=${place.href}>
      <a href=${place.href}>${place.title}</a> <span class="note">${place.note}</span>
      ${place.problem !== "" && html`<p>${place.problem}</p>`}</li>`)}</ul>`}
    ${error && html`<${Failure} error=${error} />`}
    ${labels !== undefined && labels.length > 0 && html`<${FoundLabels} key=${text} text=${text} labels=${labels} model=${route.query.get("m") ?? ""} />`}
    ${nothing && html`<p>No model of this atlas has that name${site.search ? `, and none of its ${count(site.search.neurons)} labels has ${/\s/.test(text.trim()) ? "these words" : "this word"}.` : "."}</p>`}
    ${site.search === null && html`<p class="note">This atlas has no labels to search. Run <code>neuron-atlas run --stages label</code> to add them.</p>`}
    ${(nothing || text === "" || places.length > 0) && html`<${Forms} />`}`;
}

export function UnknownPage({ route }) {
  useTitle("Unknown address");
  return html`<h1>Unknown address</h1>
    <p>This site has no page <code>#/${route.hash}</code>.</p><${Forms} />`;
}

/** The addresses that work, with examples of this atlas. */
function Forms() {
  const model = site.models.find((entry) => entry.described > 0);
  if (model === undefined) return html`<p><a href=${link.home()}>To the start</a></p>`;
  const layer = model.layers.findIndex((entry) => described(entry) > 0);
  const unit = model.layers[layer].ranges[0][0];
  const examples = [
    ["a neuron", `${model.slug}/mlp/${layer}/${unit}`, link.neuron(model.slug, layer, unit)],
    ["a layer", `${model.slug}/${layer}`, link.layer(model.slug, layer)],
    ["a model, or part of its name", model.slug, link.model(model.slug)],
    ...(site.search ? [["words of a label, or how they begin", "stripes", link.search("stripes")]] : []),
  ];
  return html`<p>What the box above takes:</p>
    <dl class="forms">${examples.map(([name, text, href]) => html`<div key=${name}><dt>${name}</dt>
      <dd><a href=${href}><code>${text}</code></a></dd></div>`)}</dl>
    <p>On a model's page <code>3/41</code> is enough, on a layer's page the unit alone. <a href=${link.home()}>All models</a></p>`;
}
