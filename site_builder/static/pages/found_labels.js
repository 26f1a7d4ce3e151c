// Neurons by their label, over the whole atlas: a group a label, the most certain first.
import { html, useState } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { figure, plural } from "../format.js";
import { fetchLabelled } from "../labels.js";
import { Failure, useLoaded } from "../parts.js";
import { link } from "../route.js";
import { NeuronTile } from "../tiles.js";
import { certainty, VERDICTS } from "../trust.js";

const [GROUPS, TILES] = [6, 8];

const VERDICT_WORDS = [["", "any"], ["holds", "holds"], ["partly", "holds in part"], ["does not", "does not hold"]];
const CERTAINTIES = [["", "any"], ["certain", "certain"], ["likely", "likely"], ["weak", "weak"]];

/** What the address asks of neurons: model, layer, verdict on the picture, certainty of the label; empty: all. */
export const askedOf = (/** @type {URLSearchParams} */ query) => Object.fromEntries(["m", "layer", "verdict", "certainty"].map((name) => [name, query.get(name) ?? ""]));

const fits = (one, { m, layer, verdict, certainty: sure }) => (m === "" || one.slug === m) && (layer === "" || one.layer === Number(layer))
  && (verdict === "" || VERDICTS[one.verdict] === verdict) && (sure === "" || certainty(one.auroc) === sure);

function Filter({ id, name, value, options, onChange }) {
  return html`<div><label for=${id}>${name}</label><select id=${id} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${options.map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}</select></div>`;
}

/** @param {{text: string, labels: import("../labels.js").FoundText[], asked: Record<string, string>}} props */
export function FoundLabels({ text, labels, asked }) {
  const [groups, setGroups] = useState(GROUPS);
  const neurons = labels.reduce((sum, label) => sum + label.neurons, 0);
  const labelled = site.models.filter((entry) => entry.labelled > 0);
  const layers = Math.max(...labelled.filter(({ slug }) => asked.m === "" || slug === asked.m).map((entry) => entry.layers.length), 0);
  const choose = (name) => (value) => location.replace(link.search({ q: text, ...asked, [name]: value }));
  return html`<div class="sortbar"><p>${plural(neurons, "neuron")} with ${plural(labels.length, "label")}</p>
      ${labelled.length > 1 && html`<${Filter} id="of-model" name="Model" value=${asked.m} options=${[["", "all"], ...labelled.map(({ slug }) => [slug, slug])]} onChange=${choose("m")} />`}
      <${Filter} id="of-layer" name="Layer" value=${asked.layer} options=${[["", "all"], ...Array.from({ length: layers }, (_, at) => [String(at), String(at)])]} onChange=${choose("layer")} />
      <${Filter} id="of-verdict" name="Picture" value=${asked.verdict} options=${VERDICT_WORDS} onChange=${choose("verdict")} />
      <${Filter} id="of-certainty" name="Label" value=${asked.certainty} options=${CERTAINTIES} onChange=${choose("certainty")} /></div>
    ${labels.slice(0, groups).map((label) => html`<${Group} key=${label.number} label=${label} asked=${asked} />`)}
    ${labels.length > groups && html`<p><button class="plain" type="button" onClick=${() => setGroups(groups + GROUPS)}>More labels: ${labels.slice(groups, groups + 3).map((label) => label.text).join(", ")} …</button></p>`}`;
}

function Group({ label, asked }) {
  const { value, error, stale } = useLoaded(() => fetchLabelled(label.number), [label.number]);
  const [tiles, setTiles] = useState(TILES);
  const found = (stale ? [] : value ?? []).filter((one) => fits(one, asked));
  const models = new Set(found.map((one) => one.slug)).size;
  return html`<section class="found-label"><h2>${label.text} <span class="note">${found.length > 0
      ? `${plural(found.length, "neuron")} of ${plural(models, "model")}` : stale ? "" : "no neuron of this kind"}</span></h2>
    ${error && html`<${Failure} error=${error} />`}
    <div class="counterparts">${found.slice(0, tiles).map((one) => html`<${NeuronTile} key=${`${one.slug}/${one.layer}/${one.unit}`} slug=${one.slug} layer=${one.layer} unit=${one.unit}>
      <span class="note">${certainty(one.auroc)}: z ${figure(one.z)}, AUROC ${figure(one.auroc)}</span><//>`)}</div>
    ${found.length > tiles && html`<button class="plain" type="button" onClick=${() => setTiles(tiles + 40)}>${found.length - tiles} more</button>`}</section>`;
}
