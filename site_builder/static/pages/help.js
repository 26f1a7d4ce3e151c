// Keys, words, and how to read a page.
import { html } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { useTitle } from "../title.js";

const KEYS = [
  ["/", "search labels, or jump to a model, a layer or a neuron"],
  ["← →", "previous and next unit of the layer; on a layer's wall, the neuron beside"],
  ["↑ ↓", "the same unit one layer earlier or later; on a wall, the neuron above or below"],
  ["Home End", "first and last neuron of a wall"],
  ["Enter", "open the neuron under the focus"],
  ["u", "up: from a neuron to its layer, from a layer to its model"],
  ["r", "a random neuron"],
  ["h", "activation over exciting images: heat, spotlight, crop, off"],
  ["p", "picture with smooth or with square pixels"],
  ["?", "this page"],
];

const WORDS = [
  ["neuron", "One hidden unit of a feed-forward (FFN) module, read after the activation function. Its address, model/mlp/layer/unit, never changes."],
  ["layer", "One FFN module, counted from the input, from 0, in the order of execution."],
  ["picture", "An image that was optimized, from noise, to raise the neuron's activation averaged over patch tokens. It is what drives the neuron, not a photograph it has seen."],
  ["fresh transforms", "The picture is shifted and recoloured at random, in ways the optimization has not seen, and measured again. A picture that only works pixel for pixel loses its activation there."],
  ["probe set", "The real images that a neuron was measured on. Its hash stands for the names and bytes of all of them."],
  ["strongest patch", "The patch token with the highest activation in an image; where it lies is framed. A neuron fires on an image whose strongest patch is over half of the strongest of all."],
  ["label", "The text that describes best what fires the neuron, if it is better than the best text on shuffled images (z, q) and tells firing from silent images that were not used to choose it (held-out AUROC)."],
  ["certain, likely, weak", "A held-out AUROC of 0.9 or more; of 0.75 or more; less. A neuron without a significant label is unlabelled."],
  ["counterpart", "A neuron of another model whose activation maps correlate with this one's over all probe images. Mutual best: each is the other's best."],
  ["Rosetta cluster", "Neurons of three or more models, every two of them each other's best counterpart, above what shuffled images reach. Clusters are numbered anew when the atlas grows; addresses of neurons never change."],
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
