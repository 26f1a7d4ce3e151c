// An image of the probe set: what is known of it, and the neurons of the atlas that it excites most.
import { html, useState } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { fetchProbeImage } from "../evidence.js";
import { fetchExcited } from "../excited.js";
import { count, plural } from "../format.js";
import { useKeys } from "../keys.js";
import { Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";
import { styled } from "../styled.js";
import { NeuronTile } from "../tiles.js";
import { Source } from "./sources.js";

const SHOWN = 24; // neurons at first, and with each press of the button
const IMAGES = 48; // of a page of the set: twelve bundles

const nameOf = (image, number) => image?.class ?? image?.image ?? `Image ${number}`;

export function ProbePage({ route }) {
  const { set, number } = route;
  useLoaded(() => styled("probe.css"), []);
  const { value, error, stale } = useLoaded(async () => {
    const [excited, image] = await Promise.all([fetchExcited(set, number), fetchProbeImage(set, number)]);
    return { excited, image };
  }, [set, number]);
  const told = stale || error ? undefined : value;
  useTitle(`${nameOf(told?.image, number)}, probe image ${number}`);
  const last = (site.excited[set]?.images ?? 0) - 1;
  const beside = (step) => (number + step >= 0 && number + step <= last ? link.probe(set, number + step) : null);
  const go = (step) => () => beside(step) !== null && (location.hash = beside(step));
  useKeys({ ArrowLeft: go(-1), ArrowRight: go(1), u: () => (location.hash = link.probes(set, { page: pageOf(number) })) }, [set, number]);
  return html`<${Trail} trail=${[["Models", link.home()], ["Probe images", link.probes(set, { page: pageOf(number) })], [`Image ${number}`, null]]} />
    <div class="head"><div><h1>${nameOf(told?.image, number)} <span class="of">probe image ${number}</span></h1>
      <p class="lede">${told ? html`<${Said} image=${told.image} />` : "\u00a0"}</p></div>
      <nav class="steps" aria-label="Images">${step(beside(-1), "←", number - 1)}${step(beside(1), "→", number + 1)}</nav></div>
    ${error && html`<${Failure} error=${error}><p><a href=${link.home()}>To the start</a></p><//>`}
    ${told && html`<${Excited} key=${`${set}/${number}`} set=${set} number=${number} query=${route.query} image=${told.image} excited=${told.excited} />`}`;
}

const pageOf = (number) => (number < IMAGES ? "" : Math.floor(number / IMAGES) + 1);
const step = (href, sign, to) => (href === null ? html`<span aria-disabled="true">${sign} –</span>` : html`<a href=${href}>${sign} ${to}</a>`);

/** Its name, and where it is from. */
const Said = ({ image }) => html`${image.image}${image.caption && ` · “${image.caption}”`} · licence ${image.licence ?? "not stated"}${image.source && html` · <${Source} source=${image.source} />`}`;

/** The image beside its neurons, of one model or layer where the address says so. */
function Excited({ set, number, query, image, excited }) {
  const [most, setMost] = useState(SHOWN);
  const about = site.excited[set];
  const [model, layer] = [query.get("m") ?? "", query.get("layer") ?? ""];
  const models = site.models.filter(({ slug }) => excited.neurons.some((one) => one.slug === slug));
  const ofModel = excited.neurons.filter(({ slug }) => model === "" || slug === model);
  const layers = [...new Set(ofModel.map((one) => one.layer))].sort((a, b) => a - b);
  const found = ofModel.filter((one) => layer === "" || one.layer === Number(layer));
  const choose = (name) => (event) => (setMost(SHOWN), location.replace(link.probe(set, number, { m: model, layer, ...(name === "m" ? { layer: "" } : {}), [name]: event.target.value })));
  return html`<div class="probe-and-neurons"><figure class="probe">${image.url ? html`<img src=${image.url} alt=${`Probe image ${number}${image.class ? `: ${image.class}` : ""}`} />`
      : html`<p class="note">The image itself is not part of this atlas: its licence or the run's choice leaves its name alone.</p>`}</figure>
    <section aria-labelledby="excited"><h2 id="excited">Neurons that it excites most</h2>
      <div class="sortbar">${models.length > 1 && html`<label>Model <select id="of-model" value=${model} onChange=${choose("m")}><option value="">all</option>${models.map(({ slug }) => html`<option key=${slug} value=${slug}>${slug}</option>`)}</select></label>`}
        ${layers.length > 1 || layer !== "" ? html`<label>Layer <select id="of-layer" value=${layer} onChange=${choose("layer")}><option value="">all</option>${layers.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>` : ""}</div>
      <p class="note" role="status">${words(excited, found, about, model !== "" || layer !== "")}</p>
      <div class="counterparts">${found.slice(0, most).map((one) => html`<${NeuronTile} key=${`${one.slug}/${one.layer}/${one.unit}`} slug=${one.slug} layer=${one.layer} unit=${one.unit}>
        ${one.label !== null && html`<span class="label-small">${one.label}</span>`}<span class="note">${standing(one.rank, about.images)}</span><//>`)}</div>
      ${found.length > most && html`<button class="plain" type="button" onClick=${() => setMost(most + SHOWN)}>Show ${Math.min(SHOWN, found.length - most)} more</button>`}
      <p class="note">The atlas keeps of each neuron its ${count(about.kept)} strongest of ${count(about.images)} images, by the strongest patch: a neuron stands here where this image is one of them,
        first those that no image excites more; of equal ones first those that it excites furthest beyond the weakest image that they keep. What it does to other neurons the atlas does not say.</p></section></div>`;
}

/** Where an image stands among all: "the strongest of 5,000", "above 99.94 % of images". */
const standing = (rank, images) => (rank === 0 ? "its strongest image" : `stronger than ${share(1 - (rank + 1) / images)} of images`);
/** A share near 1, so that what is left of it has two digits: 99.94 %. */
const share = (value) => {
  const digits = Math.max(0, 1 - Math.floor(Math.log10(Math.max(1e-9, 100 * (1 - value)))));
  return `${(Math.floor(value * 100 * 10 ** digits) / 10 ** digits).toFixed(digits)} %`;
};

function words({ all, neurons }, found, about, filtered) {
  if (all === 0) return "It is among the strongest images of no neuron.";
  const cut = all > neurons.length ? html`, of which the first ${count(neurons.length)} are listed` : "";
  return html`It is among the strongest images of <b>${plural(all, "neuron")}</b>${cut}, where chance would have about ${count(Math.round((about.kept * described()) / about.images))}.${filtered ? ` ${count(found.length)} of them here.` : ""}`;
}

const described = () => site.models.reduce((sum, model) => sum + model.described, 0);

/** All images of a set, some at a time: each leads to its neurons. */
export function ProbesPage({ route }) {
  const { set } = route;
  useLoaded(() => styled("probe.css"), []);
  useTitle("Probe images");
  const about = site.excited[set];
  const images = about?.images ?? 0, pages = Math.ceil(images / IMAGES);
  const page = Math.min(Math.max(0, pages - 1), Math.max(0, (Number(route.query.get("page")) || 1) - 1));
  const numbers = Array.from({ length: Math.max(0, Math.min(IMAGES, images - page * IMAGES)) }, (_, at) => page * IMAGES + at);
  const { value, error, stale } = useLoaded(async () => Promise.all(numbers.map((number) => fetchProbeImage(set, number))), [set, page]);
  return html`<${Trail} trail=${[["Models", link.home()], ["Probe images", null]]} />
    <h1>Probe images</h1>
    <p class="lede">${about === undefined ? `This atlas does not know which neurons the images of a probe set “${set}” excite.` : `${plural(images, "image")} that neurons were measured on. Each leads to the neurons that it excites most.`}</p>
    ${error && html`<${Failure} error=${error} />`}
    <ul class="probes">${(stale ? [] : value ?? []).map((image, at) => html`<li key=${numbers[at]}><a href=${link.probe(set, numbers[at])}>${image.url
      ? html`<img src=${image.url} alt="" />` : html`<span class="none">${image.image}</span>`}<span class="class">${nameOf(image, numbers[at])}</span></a></li>`)}</ul>
    ${pages > 1 && html`<nav class="pager" aria-label="Pages">${page > 0 && html`<a href=${link.probes(set, { page: page > 1 ? page : "" })}>← earlier</a>`}
      <span>page ${page + 1} of ${pages}</span>${page < pages - 1 && html`<a href=${link.probes(set, { page: page + 2 })}>later →</a>`}</nav>`}`;
}
