// What stands beside and in place of what a search finds: labels of near meaning, words that may have been meant, what the box
// takes; and what an unknown address gets.
import { html, useRef } from "../vendor/htm-preact.js";
import { described, site } from "../data.js";
import { hundredth } from "../format.js";
import { nearestWords } from "../labels.js";
import { useNear } from "../near.js";
import { nearLabels } from "../near_labels.js";
import { useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";

/** Labels whose neurons a text stands out for, too, once this comes near the screen. */
export function Near({ text }) {
  const box = useRef(null);
  const near = useNear(box);
  const { value, stale } = useLoaded(async () => (near ? nearLabels(text).catch(() => []) : []), [text, near]);
  return html`<div ref=${box}>${!stale && value !== undefined && value.length > 0 && html`<section class="found-near" aria-labelledby="near-in-meaning"><h2 id="near-in-meaning">Near in meaning</h2>
    <p class="note">Labels that stand out for the same neurons as texts with ${/\s/.test(text.trim()) ? "these words" : "this word"}; likeness from 0 to 1.</p>
    <ul class="found">${value.map(([label, likeness]) => html`<li key=${label}><a href=${link.search({ q: label })}>${label}</a> <span class="note">${hundredth(likeness)}</span></li>`)}</ul></section>`}</div>`;
}

export const Nothing = ({ text, searched }) => html`<${Meant} text=${text} />
  <p>No model of this atlas has that name${searched.length > 0 ? `, and none of its ${searched.join(" or ")} has ${/\s/.test(text.trim()) ? "these words" : "this word"}.` : "."}</p>`;

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
export function Forms() {
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
