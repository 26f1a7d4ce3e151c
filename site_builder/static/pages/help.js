// Keys, words, and how to read a page.
import { html } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { useTitle } from "../title.js";

const KEYS = [
  ["/", "jump to a model, a layer or a neuron"],
  ["← →", "previous and next unit of the layer; on a layer's wall, the neuron beside"],
  ["↑ ↓", "the same unit one layer earlier or later; on a wall, the neuron above or below"],
  ["Home End", "first and last neuron of a wall"],
  ["Enter", "open the neuron under the focus"],
  ["u", "up: from a neuron to its layer, from a layer to its model"],
  ["r", "a random neuron"],
  ["p", "picture with smooth or with square pixels"],
  ["?", "this page"],
];

const WORDS = [
  ["neuron", "One hidden unit of a feed-forward (FFN) module, read after the activation function. Its address, model/mlp/layer/unit, never changes."],
  ["layer", "One FFN module, counted from the input, from 0, in the order of execution."],
  ["picture", "An image that was optimized, from noise, to raise the neuron's activation averaged over patch tokens. It is what drives the neuron, not a photograph it has seen."],
  ["fresh transforms", "The picture is shifted and recoloured at random, in ways the optimization has not seen, and measured again. A picture that only works pixel for pixel loses its activation there."],
  ["inactive", "No start made the neuron fire. Its picture shows where the search ended and nothing else."],
];

export function HelpPage() {
  useTitle("Help");
  return html`<h1>Help</h1>
    <section><h2>Keyboard</h2><dl class="forms">${KEYS.map(([key, does]) => html`<div key=${key}>
      <dt>${key.split(" ").map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>${does}</dd></div>`)}</dl></section>
    <section><h2>Words</h2><dl class="forms words">${WORDS.map(([word, means]) => html`<div key=${word}><dt>${word}</dt><dd>${means}</dd></div>`)}</dl></section>
    <section><h2>Columns of the neurons table</h2>
      <p>The same sentences stand behind every <span class="why">?</span>.</p>
      <dl class="forms words">${Object.entries(site.columns.neurons).map(([name, about]) => html`<div key=${name}>
        <dt><code>${name}</code></dt><dd>${about.means}${about.unit && ` (${about.unit})`}${about.absent && `; absent where ${about.absent}`}.</dd></div>`)}</dl></section>`;
}
