// The jump box's page, and what an unknown address gets.
import { html } from "../vendor/htm-preact.js";
import { described, site } from "../data.js";
import { jumpMatches } from "../jump.js";
import { link } from "../route.js";
import { useTitle } from "../title.js";

export function SearchPage({ route }) {
  const text = route.query.get("q") ?? "";
  useTitle(text);
  const found = text === "" ? [] : jumpMatches(text, route);
  return html`<h1>${text === "" ? "Jump to a neuron" : `“${text}”`}</h1>
    ${found.length > 0 && html`<ul class="found">${found.map((place) => html`<li key=${place.href}>
      <a href=${place.href}>${place.title}</a> <span class="note">${place.note}</span>
      ${place.problem !== "" && html`<p>${place.problem}</p>`}</li>`)}</ul>`}
    ${found.length === 0 && text !== "" && html`<p>No model of this atlas has that name.</p>`}
    <${Forms} />`;
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
  ];
  return html`<p>What the box above takes:</p>
    <dl class="forms">${examples.map(([name, text, href]) => html`<div key=${name}><dt>${name}</dt>
      <dd><a href=${href}><code>${text}</code></a></dd></div>`)}</dl>
    <p>On a model's page <code>3/41</code> is enough, on a layer's page the unit alone. <a href=${link.home()}>All models</a></p>`;
}
