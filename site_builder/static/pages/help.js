// Keys, words, and how to read a page.
import { html, useState } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { plural } from "../format.js";
import { countKept, forgetKept } from "../offline.js";
import { Choice, useLoaded, usePreference, useTitle } from "../parts.js";

const KEYS = [
  ["/", "search labels, what heads say, features and clusters, or jump to a model, a layer, a neuron or a head"],
  ["← →", "previous and next unit, or head, of the layer; on a layer's wall or a map of heads, the one beside; previous and next feature, cluster, probe image"],
  ["[ ]", "the same unit, or head, one layer earlier or later"],
  ["↑ ↓", "on a wall or a map, the one above or below; elsewhere they scroll"],
  ["Home End", "first and last neuron of a wall, or head of a layer on a map"],
  ["Enter", "open the neuron or head under the focus"],
  ["u", "up: from a neuron to its layer, from a layer to its model; from a head to all heads of its model"],
  ["r", "a random neuron"],
  ["h", "activation over exciting images: spotlight, heat, crop, off; what patches pass through a head: map, off"],
  ["p", "picture with smooth or with square pixels"],
  ["c", "put this neuron or head aside to compare it, or take it out again"],
  ["?", "this page"],
];

const WORDS = [
  ["neuron", "One hidden unit of a feed-forward (FFN) module, read after the activation function. Its address, model/mlp/layer/unit, never changes."],
  ["layer", "One FFN module, counted from the input, from 0, in the order of execution."],
  ["picture", "An image that was optimized, from noise, to raise the neuron's activation averaged over patch tokens. It is what drives the neuron, not a photograph it has seen."],
  ["verdict", "Whether the picture holds when it is shifted, turned, recoloured, blurred or made noisy as a photograph may be. Holds: at least half of its activation is left on average, and a quarter under each. A picture that works pixel for pixel alone does not hold."],
  ["probe set", "The real images that a neuron was measured on. Its hash stands for the names and bytes of all of them."],
  ["neurons like an image", "The name below a probe image leads to the neurons that it excites most: those that keep it among their strongest images, first those that no other image of the set excites more. Of other neurons the atlas does not tell what the image does."],
  ["strongest patch", "The patch token with the highest activation in an image; where it lies is framed. A neuron fires on an image whose strongest patch is over half of the strongest of all."],
  ["label", "The text that describes best what fires the neuron, if it is better than the best text on shuffled images (z, q) and tells firing from silent images that were not used to choose it (held-out AUROC)."],
  ["certain, likely, weak", "A held-out AUROC of 0.9 or more; of 0.75 or more; less. A neuron without a significant label is unlabelled."],
  ["counterpart", "A neuron of another model whose activation maps correlate with this one's over all probe images. Mutual best: each is the other's best."],
  ["Rosetta cluster", "Neurons of three or more models, every two of them each other's best counterpart, above what shuffled images reach. Clusters are numbered anew when the atlas grows; addresses of neurons never change."],
  ["attention head", "One head of an attention module. Its address, model/head/layer/head, never changes; its layer counts attention modules from the input, from 0."],
  ["contribution", "What a head or an FFN adds to the final representation of an image, the vector that the classifier reads. All contributions add up to it exactly, attention weights and norms held at their values for the image."],
  ["direct, through attention", "Direct: the contribution goes along the residual path. A head whose tokens never meet there what is read at the end has none; it reaches the representation through the values of later attention, and its page says so."],
  ["texts of a head", "Chosen by TextSpan from a list, each for the variance of the contribution that those before it have left over. The one that explains most is the head's label, if that is a tenth or more."],
  ["alignment", "Linear maps, fitted on images, from a model's contributions to the space of a CLIP, where texts live. How well they hold on other images stands on each head's page."],
  ["feature", "A group of texts, such as colours. The score of a head says how far its contribution follows the whole representation along these texts, from −1 to 1; what its ablation does is measured apart."],
  ["ablation of a head", "Its contribution is replaced by its mean over images, everything else held. What the accuracy loses is its effect."],
  ["map of a head", "What each patch of an image passes through the head along one direction: red towards the end that the images are ordered by, blue away from it."],
  ["inactive", "No start made the neuron fire. Its picture shows where the search ended and nothing else."],
];

export function HelpPage() {
  const [keys, setKeys] = usePreference("keys", "on");
  useTitle("Help");
  return html`<h1>Help</h1>
    <section><h2>Keyboard</h2><dl class="forms">${KEYS.map(([key, does]) => html`<div key=${key}>
      <dt>${key.split(" ").map((one) => html`<kbd>${one}</kbd> `)}</dt><dd>${does}</dd></div>`)}</dl>
      <p><${Choice} name="Keys of one letter or sign" value=${keys} options=${[["on", "on"], ["off", "off"]]} onChange=${setKeys} />${" "}
        <span class="note">Off, they do nothing here, so that speech input and other tools have them.</span></p></section>
    <${Kept} />
    <section><h2>Words</h2><dl class="forms words">${WORDS.map(([word, means]) => html`<div key=${word}><dt>${word}</dt><dd>${means}</dd></div>`)}</dl></section>
    <section><h2>Columns</h2>
      <p>The same sentences stand behind every <span class="why">?</span>.</p>
      ${Object.keys(site.columns).map((table) => html`<${Table} key=${table} table=${table} />`)}</section>`;
}

/** What this browser keeps of what was opened here. */
function Kept() {
  const [asked, setAsked] = useState(0);
  const { value } = useLoaded(countKept, [asked]);
  if (value === undefined || !("caches" in globalThis)) return null;
  return html`<section><h2>Without a connection</h2>
    <p>What you have opened here stays readable without a connection, in this browser alone: ${plural(value, "file")} at present.
      ${value > 0 && html`<button class="plain" type="button" onClick=${() => forgetKept().then(() => setAsked(asked + 1))}>Forget them</button>`}</p></section>`;
}

function Table({ table }) {
  return html`<details open=${table === "neurons"}><summary>The table <code>${table}</code></summary><dl class="forms words">${Object.entries(site.columns[table]).map(([name, about]) => html`<div key=${name}>
    <dt><code>${name}</code></dt><dd>${about.means}${about.unit && ` (${about.unit})`}${about.absent && `; absent where ${about.absent}`}.</dd></div>`)}</dl></details>`;
}
