// What this atlas is, in pictures first; its models; how to take it home.
import { html, useState } from "../vendor/htm-preact.js";
import { described, site } from "../data.js";
import { count, plural } from "../format.js";
import { entries, Snippet, useTitle } from "../parts.js";
import { tileStyle } from "../pictures.js";
import { link } from "../route.js";
import { inAndOut } from "../stages.js";

export function HomePage() {
  useTitle("");
  const described = site.models.filter((model) => model.described > 0); // of a run that goes on not all yet
  const neurons = described.reduce((sum, model) => sum + model.described, 0);
  const headed = site.models.filter((model) => model.heads !== null);
  const more = entries(site);
  return html`<section class="intro">
      <h1>${neurons > 0 ? "What excites each neuron of a vision transformer" : "What each attention head of a vision transformer adds"}</h1>
      ${neurons > 0 && html`<p>${plural(neurons, "FFN neuron")} of ${plural(described.length, "model")}: ${contents()}, and the numbers that say how far
        to trust them. <a href=${link.random()}>Open any one</a></p>`}
      ${headed.length > 0 && html`<p class=${neurons > 0 ? "more" : ""}>${heads(headed)}</p>`}
      ${(site.search || more.length > 0) && html`<p class="more">${site.search && html`${plural(site.search.neurons, "neuron")} ${site.search.neurons === 1 ? "has" : "have"} a
          label: search for one above.`}${more.map((words) => html` ${words}`)}</p>`}
    </section>
    ${site.wall && html`<${Wall} wall=${site.wall} />`}
    ${(site.start || site.start_head) && html`<section aria-labelledby="start"><h2 id="start">Start here</h2><${Start} /></section>`}
    <section aria-labelledby="models"><h2 id="models">Models</h2><${InAll} /><${Models} /></section>
    <section class="take" aria-labelledby="take"><h2 id="take">Take it home</h2><${TakeHome} /></section>`;
}

/** Pictures by depth, early layers on top; one or more columns a model. */
function Wall({ wall }) {
  const [name, setName] = useState("");
  return html`<figure class="wall-of-models">
    <div class="grid" style=${{ "--columns": wall.columns, "--narrow": wall.narrow }}>
      ${wall.tiles.map((tile, at) => html`<${WallTile} key=${at} wall=${wall} tile=${tile} at=${at} onName=${setName} />`)}
    </div>
    <figcaption class="why-so">Optimized pictures look unlike photographs because nothing holds them to how real scenes look: the search keeps
      whatever raises the neuron's activation over all patches, so the same texture or part comes again all over the picture.</figcaption>
    <figcaption><span>Early layers on top, late layers below.</span> <span>${name === "" ? "Each picture opens its neuron." : name}</span></figcaption>
  </figure>`;
}

const STARTS = {
  clear: ["A clear neuron", "One thing fires it, its label says what, and its picture holds."],
  several: ["A neuron of several things", "The images that excite it fall into two groups: no one word is enough."],
  fails: ["A picture that does not hold", "Changed a little, it no longer fires the neuron: look at the real images instead."],
  head: ["An attention head", "What it adds in words, and what it costs to take it away."],
};

/** One neuron of each kind, and a head (start.py says by which rule). */
function Start() {
  const neurons = site.start?.neurons ?? [];
  return html`<ul class="starts">${neurons.map(([kind, model, layer, unit, label], at) => {
    const { slug } = site.models[model];
    return html`<li key=${kind}><a href=${link.neuron(slug, layer, unit)}><span class="tile" style=${tileStyle(/** @type {any} */ (site.start).file, at, neurons.length, 1)}></span>
      <b>${STARTS[kind][0]}</b></a> <span class="note">${label && html`<span class="label-small">${label}</span> `}${slug}, layer ${layer}, unit ${unit}. ${STARTS[kind][1]}</span></li>`;
  })}${site.start_head && html`<${StartHead} head=${site.start_head} />`}</ul>`;
}

function StartHead({ head: [slug, layer, head, label] }) {
  return html`<li><a href=${link.head(slug, layer, head)}><span class="tile in-words">${label}</span> <b>${STARTS.head[0]}</b></a>
    <span class="note">${slug}, layer ${layer}, head ${head}. ${STARTS.head[1]}</span></li>`;
}

function WallTile({ wall, tile, at, onName }) {
  const column = at % wall.columns;
  const kind = column >= wall.narrow ? "wide-only" : "";
  if (tile === null) return html`<span class=${kind}></span>`;
  const [index, layer, unit] = tile;
  const model = site.models[index];
  const name = `${model.slug}, layer ${layer}, unit ${unit}`;
  return html`<a class=${`tile ${kind}`} href=${link.neuron(model.slug, layer, unit)} aria-label=${name}
    onMouseEnter=${() => onName(name)} onMouseLeave=${() => onName("")} onFocus=${() => onName(name)} onBlur=${() => onName("")}
    style=${tileStyle(wall.file, at, wall.columns, wall.rows)}></a>`;
}

function Models() {
  return html`<ul class="models">${site.models.map((model) => html`<li key=${model.slug}>
    <div class="name"><a href=${link.model(model.slug)}>${model.slug}</a>
      <span class="note">${model.model_id}</span></div>
    <div class="facts">${model.family} · ${plural(model.layers.length, "layer")} · ${model.described === model.neurons
      ? plural(model.neurons, "neuron") : `${count(model.described)} of ${plural(model.neurons, "neuron")}`}${model.inactive > 0
      && ` · ${count(model.inactive)} inactive`}${entries(model, true).map((words) => html` · ${words}`)}<${Stages} model=${model} /></div>
    <${DepthStrip} model=${model} />
  </li>`)}</ul>`;
}

/** What there is of attention heads. */
function heads(models) {
  const total = models.reduce((sum, { heads: { layers } }) => sum + layers.reduce((all, own) => all + own, 0), 0);
  return html`${plural(total, "attention head")} of ${plural(models.length, "model")}: what each adds to the final representation${models.some(({ heads: own }) => own.texts) && ", in words"}, and what it costs to take it away.`;
}

/** What there is to see of a neuron, as far as any model of this atlas has it. */
function contents() {
  const has = (stage) => site.models.some(({ stages }) => stages.includes(stage));
  const parts = [has("visualize") && "an image optimized to activate each", has("examples") && "the real images that excite it",
    has("label") && "what it is called", has("matches") && "its counterparts in other models"];
  return parts.filter(Boolean).join(", ");
}

/** What was done for every model, where that is the same. */
function InAll() {
  const [model, ...others] = site.models;
  if (others.some(({ stages }) => stages.join() !== model.stages.join())) return null;
  return html`<p class="note in-all">${others.length > 0 ? "All have" : "It has"} ${inWords(model, " yet")}.</p>`;
}

/** "pictures, labels; no counterparts", of which what lacks leads to the model's page. */
function inWords(model, yet = "") {
  const { has, lacks } = inAndOut(model);
  const lacking = lacks.length > 0 && html`<a href=${link.model(model.slug)}>no ${lacks.join(", ")}</a>${yet}`;
  return html`${has.join(", ")}${has.length > 0 && lacking && "; "}${lacking}`;
}

/** What was done for a model; what was not is said on its page, with the command that adds it. */
function Stages({ model }) {
  if (site.models.every(({ stages }) => stages.join() === model.stages.join())) return null; // said once, above
  return html`<span class="note stages">has ${inWords(model)}</span>`;
}

/** One small picture a layer, from input to output. */
function DepthStrip({ model }) {
  const layers = model.layers.map((entry, layer) => ({ entry, layer })).filter(({ entry }) => described(entry) > 0);
  if (model.depth === null) return html`<p class="note">${model.described > 0 ? "No pictures yet." : "No neuron described yet."}</p>`;
  return html`<div class="depth">${layers.map(({ layer }, at) => html`<a key=${layer} class="tile"
    href=${link.layer(model.slug, layer)} title=${`Layer ${layer}`} aria-label=${`${model.slug}, layer ${layer}`}
    style=${tileStyle(model.depth, at, layers.length, 1)}></a>`)}</div>`;
}

function TakeHome() {
  const atlas = site.dataset === "" ? "path/to/atlas" : site.dataset;
  return html`<${Snippet} title="The whole table of neurons, in Python"
      text=${`from datasets import load_dataset\n\nneurons = load_dataset("${atlas}", "neurons", split="train", streaming=True)`} />
    <${Snippet} title="The same for a checkpoint of your own, in the shell"
      text=${"neuron-atlas run --model timm/vit_small_patch16_224 --weights my.safetensors --as my-vit --out my-atlas\nneuron-atlas site build --atlas my-atlas --out my-site"} />
    <p>The pictures come from activation maximization as in Ghiasi et al., <cite>What do Vision Transformers Learn? A Visual Exploration</cite>, arXiv 2212.06727.${" "}
      ${site.models.some(({ heads: own }) => own !== null) && html`Heads are decomposed and named as in Gandelsman et al., arXiv 2310.05916, and Balasubramanian et al., arXiv 2406.01583.${" "}`}Each neuron's ${site.models.some(({ heads: own }) => own !== null) && "and each head's"} page has its own citation.</p>`;
}
