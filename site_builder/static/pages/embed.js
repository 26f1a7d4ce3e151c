// A neuron or a head inside another page: what it is, its picture and images, and the way to its own page.
import { html } from "../vendor/htm-preact.js";
import { fetchModel, fetchNeuron } from "../data.js";
import { fetchExamples, hasExamples } from "../evidence.js";
import { fetchHead } from "../heads.js";
import { Failure, Picture, useLoaded, useTitle } from "../parts.js";
import { addressOf, headAddressOf, link } from "../route.js";
import { ExampleTile, SignedTile } from "../tiles.js";
import { telling } from "../trust.js";
import { headTelling } from "./head_words.js";

const IMAGES = 6;

export function EmbedPage({ route: { slug, layer, unit } }) {
  const { value, error, stale } = useLoaded(async () => {
    const [row, model, examples] = await Promise.all([fetchNeuron(slug, layer, unit), fetchModel(slug), fetchExamples(slug, layer, unit)]);
    return { row, model, examples: (examples ?? []).filter(({ kind }) => kind === "top").slice(0, IMAGES) };
  }, [slug, layer, unit]);
  const address = addressOf(slug, layer, unit);
  useTitle(address);
  if (error) return html`<${Failure} error=${error} />`;
  if (stale || !value) return html`<p class="note" aria-busy="true">Reading …</p>`;
  const { row, model, examples } = value;
  const full = Math.max(...examples.map(({ high }) => high), 0);
  const seen = row.status !== null && row.status !== "failed";
  return html`<article class="embed">
    ${seen && html`<${Picture} slug=${slug} layer=${layer} unit=${unit} size=${[model.model.input_height, model.model.input_width]} color=${`#${row.color}`} alt=${`Image optimized to activate ${address}`} />`}
    <${Said} label=${row.label} address=${address} href=${link.neuron(slug, layer, unit)} sentence=${telling(row, hasExamples(slug, layer))}>
      ${examples.map((one) => html`<${ExampleTile} key=${one.image} example=${one} overlay="spotlight" full=${full} />`)}<//></article>`;
}

export function EmbedheadPage({ route: { slug, layer, head } }) {
  const { value, error, stale } = useLoaded(() => fetchHead(slug, layer, head), [slug, layer, head]);
  const address = headAddressOf(slug, layer, head);
  useTitle(address);
  if (error) return html`<${Failure} error=${error} />`;
  if (stale || !value) return html`<p class="note" aria-busy="true">Reading …</p>`;
  const shown = value.examples.filter(({ direction }) => direction === "axis 0 high").slice(0, IMAGES);
  const full = Math.max(...shown.map(({ scale }) => scale), 1e-12);
  return html`<article class="embed"><${Said} label=${value.row.label} address=${address} href=${link.head(slug, layer, head)} sentence=${headTelling(value.row, value.texts)}>
    ${shown.map((one) => html`<${SignedTile} key=${one.image} example=${one} overlay="map" full=${full} />`)}<//></article>`;
}

function Said({ label, address, href, sentence, children }) {
  return html`<div><h1>${label ? html`<span class="label">${label}</span>` : address}</h1><p>${sentence}</p><div class="examples">${children}</div>
    <p class="note"><a href=${href} target="_blank" rel="noopener">${address}, the whole page</a></p></div>`;
}
