// Small pictures that link somewhere: a neuron's, and a probe image with its activation map.
import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import { holds, site } from "./data.js";
import { fetchImageOf, knowsExcited } from "./evidence.js";
import { figure, signed } from "./format.js";
import { clear, cropWindow, drawMap, drawSigned, patchBox } from "./maps.js";
import { useNear } from "./near.js";
import { useLoaded } from "./parts.js";
import { pictureUrl } from "./pictures.js";
import { addressOf, link } from "./route.js";

const CANVAS = 224; // device pixels a side: two for each pixel of a tile

/** Whether this atlas describes a neuron, so that a link to it leads somewhere. */
export function isHere(slug, layer, unit) {
  const entry = site.models.find((model) => model.slug === slug)?.layers[layer];
  return entry !== undefined && holds(entry, unit);
}

/** Whether this atlas describes neurons of a layer. */
export const isLayerHere = (slug, layer) => (site.models.find((model) => model.slug === slug)?.layers[layer]?.folder ?? null) !== null;

/** A neuron's picture, small, with what is said below it (not where it is `bare`, without its model where it is `short`); a link where this atlas has the neuron. */
export function NeuronTile({ slug, layer, unit, bare = false, short = false, children }) {
  const box = useRef(null);
  const near = useNear(box);
  const here = isHere(slug, layer, unit);
  const { value, stale } = useLoaded(async () => (near && here ? pictureUrl(slug, layer, unit).catch(() => null) : null), [slug, layer, unit, near]);
  const name = addressOf(slug, layer, unit);
  const picture = html`<span class="shot" ref=${box}>${value && !stale
    ? html`<img src=${value} alt=${`Picture of ${name}`} />` : html`<span class="none">${near && !stale ? "no picture" : ""}</span>`}</span>`;
  const text = !bare && html`<span class="where">${!short && html`<b>${slug}</b>`} <span>layer ${layer}, unit ${unit}</span></span>`;
  return html`<div class="neuron-tile">
    ${here ? html`<a href=${link.neuron(slug, layer, unit)}>${picture}${text}</a>` : html`<div>${picture}${text}</div>`}
    ${children}</div>`;
}

/** A probe image, once its tile (the element of `box`) comes near the screen; missing: it came without a picture. */
function useProbeImage(example) {
  const { probe, image: index } = example;
  const box = useRef(null);
  const near = useNear(box);
  const { value, error, stale } = useLoaded(async () => (near && site.probes[probe] ? fetchImageOf(example) : null), [probe, index, near]);
  const image = stale ? null : value;
  return { box, image, error, missing: near && !stale && !image?.url };
}

/**
 * A probe image with a neuron's map over it and the strongest patch marked.
 * @param {{example: import("./evidence.js").Example, overlay: string, full: number, note?: string}} props
 *   full: the activation of the strongest colour, the same for all tiles of a neuron
 */
export function ExampleTile({ example, overlay, full, note }) {
  const canvas = useRef(null);
  const { box, image, error, missing } = useProbeImage(example);
  const drawn = missing && overlay !== "spotlight" ? "heat" : overlay; // without a picture the map is all there is
  useEffect(() => void (canvas.current && drawMap(canvas.current, example, drawn, full)), [example, drawn, full]);
  const name = image?.image ?? example.name ?? `image ${example.image}`;
  const crop = overlay === "crop" && image?.url;
  const [left, top] = cropWindow(example);
  const look = crop ? { transform: `scale(2) translate(${-100 * left}%, ${-100 * top}%)` } : {};
  return html`<figure class="example">
    <div class="shot" ref=${box} title=${[name, image?.caption, image?.licence, image?.source].filter(Boolean).join(" · ")}>
      <div class="stack" style=${look}>
        ${image?.url && html`<img src=${image.url} alt=${`${image.class ?? name}, activation ${figure(example.activation)}`} />`}
        <canvas width=${CANVAS} height=${CANVAS} ref=${canvas} aria-hidden="true"></canvas>
        <${Patch} box=${patchBox(example)} />
      </div>
      ${missing && html`<span class="none">${error ? error.message : name}</span>`}
    </div>
    <figcaption><b>${figure(example.activation)}</b>${note && html` <span>${note}</span>`}
      <${Named} example=${example} text=${image?.class ?? name} />${example.scale > 0 && html` <span>scale ${example.scale}</span>`}</figcaption>
  </figure>`;
}

/**
 * A probe image with what its patches pass through a head, towards a direction and away.
 * @param {{example: import("./heads.js").HeadExample, overlay: string, full: number}} props full: what has the strongest colour
 */
export function SignedTile({ example, overlay, full }) {
  const canvas = useRef(null);
  const { box, image, error, missing } = useProbeImage(example);
  const drawn = overlay === "map" || missing; // without a picture the map is all there is
  useEffect(() => void (canvas.current && (drawn ? drawSigned(canvas.current, example, full) : clear(canvas.current))), [example, drawn, full]);
  const name = image?.image ?? example.name ?? `image ${example.image}`;
  return html`<figure class="example">
    <div class=${drawn ? "shot signed" : "shot"} ref=${box} title=${[name, image?.caption, image?.licence, image?.source].filter(Boolean).join(" · ")}>
      <div class="stack">${image?.url && html`<img src=${image.url} alt=${`${image.class ?? name}, projection ${figure(example.projection)}`} />`}
        <canvas width=${CANVAS} height=${CANVAS} ref=${canvas} aria-hidden="true"></canvas></div>
      ${missing && html`<span class="none">${error ? error.message : name}</span>`}
    </div>
    <figcaption><b>${signed(example.projection)}</b><${Named} example=${example} text=${image?.class ?? name} /></figcaption>
  </figure>`;
}

/** What an image is called: the way to all neurons that it excites, where this atlas knows them. */
const Named = ({ example: { probe, image }, text }) => html`<span class="class">${knowsExcited(probe) && !location.hash.startsWith("#/e/")
  ? html`<a href=${link.probe(probe, image)} title="Neurons that it excites most">${text}</a>` : text}</span>`;

export function Patch({ box: [left, top, right, bottom] }) {
  const share = (value) => `${100 * value}%`;
  return html`<span class="patch" style=${{ left: share(left), top: share(top), width: share(right - left), height: share(bottom - top) }}></span>`;
}
