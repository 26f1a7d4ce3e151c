// One neuron: the verdict in a sentence, its picture beside the images that excite it; everything else below, by its own script.
import { html, useEffect } from "../vendor/htm-preact.js";
import { Contents } from "../contents.js";
import { described, fetchModel, fetchNeuron, findModel, neighbour } from "../data.js";
import { fetchExamples, hasExamples } from "../evidence.js";
import { useKeys } from "../keys.js";
import { Choice, Failure, Lazy, Picture, Trail, useLoaded, usePreference, useTitle } from "../parts.js";
import { pictureUrl } from "../pictures.js";
import { addressOf, link, parseHash } from "../route.js";
import { CopyLink } from "../share.js";
import { AddToCompare } from "../tray.js";
import { ImagesSection } from "./neuron_images.js";
import { LabelLine, Tells, Title } from "./neuron_tells.js";

const below = () => import("./neuron_below.js");

export function NeuronPage({ route }) {
  const { slug, layer, unit } = route;
  const { value, error, stale } = useLoaded(async () => {
    pictureUrl(slug, layer, unit).catch(() => {}); // on its way while the row is; Picture tells what went wrong
    fetchExamples(slug, layer, unit).catch(() => {}); // and so are these; their section tells
    below().catch(() => {}); // and its part of the page tells
    const [row, model] = await Promise.all([fetchNeuron(slug, layer, unit), fetchModel(slug)]);
    return { slug, layer, unit, row, model };
  }, [slug, layer, unit]);
  const row = stale || error ? undefined : value?.row;
  useTitle([row?.label_status === "labelled" && row.label, addressOf(slug, layer, unit)].filter(Boolean).join(" · "));
  const ways = waysFrom(slug, layer, unit);
  const [look, setLook] = usePreference("picture", "smooth");
  useKeys({
    ArrowLeft: go("previous"), ArrowRight: go("next"), "[": go("earlier"), "]": go("later"),
    u: () => (location.hash = link.layer(slug, layer)), p: () => setLook((last) => (last === "smooth" ? "pixels" : "smooth")),
  }, [slug, layer, look]);
  useEffect(() => void (value && fetchAhead(ways)), [value]);

  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], [`Layer ${layer}`, link.layer(slug, layer)], [`Unit ${unit}`, null]]} />
    <div class="head"><div><${Title} row=${row} slug=${slug} layer=${layer} unit=${unit} />
      ${!error && html`<${Tells} row=${row} slug=${slug} layer=${layer} />`}
      <p class="lede address"><code>${addressOf(slug, layer, unit)}</code> <${CopyLink} route=${route} /> <${AddToCompare} address=${addressOf(slug, layer, unit)} /></p></div>
      <${Ways} ways=${ways} /></div>
    ${error && html`<${Failure} error=${error}><${Nearest} slug=${slug} layer=${layer} unit=${unit} /><//>`}
    ${!error && html`<${Contents} />`}
    ${!error && value && html`<div class=${stale ? "stale" : ""} aria-busy=${stale}><${Body} ...${value} look=${look} setLook=${setLook} /></div>`}
    ${!error && !value && html`<div class="neuron" aria-busy="true"><div class="picture"></div></div>`}`;
}

/** From where the address is now: keys may come faster than pages are drawn. */
const go = (direction) => () => {
  const { slug, layer, unit } = parseHash(location.hash);
  const way = unit === undefined ? null : waysFrom(slug, layer, unit)[direction];
  if (way) location.hash = way.href;
};

function Body({ slug, layer, unit, row, model, look, setLook }) {
  const place = { slug, layer, unit };
  const shown = hasExamples(slug, layer); // else the figures stand where the images would be
  const seen = row.status !== null && row.status !== "failed"; // the visualize stage made its picture
  return html`<article class=${seen ? "neuron" : "neuron unseen"}>
      ${seen && html`<${Large} ...${place} row=${row} model=${model} look=${look} setLook=${setLook} />`}
      ${shown ? html`<${ImagesSection} ...${place} row=${row} model=${model} />`
        : html`<${Lazy} load=${below} name="TrustSection" props=${{ row, summary: model.layers[layer], layer }} />`}
    </article>
    <${LabelLine} row=${row} />
    <${Lazy} load=${below} name="NeuronBelow" props=${{ ...place, row, model, trusted: !shown }} />`;
}

/** The picture as large as it gets, with how to look at it. */
function Large({ slug, layer, unit, row, model, look, setLook }) {
  const size = [model.model.input_height, model.model.input_width];
  const inactive = row.status === "inactive";
  const alt = `Image optimized to activate unit ${unit} of layer ${layer} of ${slug}${inactive ? "; the unit stayed inactive" : ""}`;
  return html`<figure class="large">
    ${inactive && html`<p class="inactive-note"><b>Inactive.</b> No start made this neuron fire, so this picture shows
      where the search ended, not what excites the neuron.</p>`}
    <${Picture} slug=${slug} layer=${layer} unit=${unit} size=${size} color=${`#${row.color}`} alt=${alt} pixelated=${look === "pixels"} />
    <figcaption><${Choice} name="Pixels" value=${look} options=${[["smooth", "smooth"], ["pixels", "pixels"]]} onChange=${setLook} />
      <span class="note">${size[1]} × ${size[0]} px, <${Save} slug=${slug} layer=${layer} unit=${unit} /></span></figcaption>
  </figure>`;
}

function Save({ slug, layer, unit }) {
  const { value, stale } = useLoaded(() => pictureUrl(slug, layer, unit), [slug, layer, unit]);
  return html`<a href=${stale ? undefined : value} download=${`${slug}-mlp-${layer}-${unit}.webp`}>save as WebP</a>`;
}

/** Neighbours: units of this layer, and the same unit (or the nearest described) one layer earlier and later. */
function waysFrom(slug, layer, unit) {
  let layers;
  try {
    layers = findModel(slug).layers;
  } catch {
    return {};
  }
  const beside = (step) => {
    const to = layers[layer] ? neighbour(layers[layer], unit, step) : null;
    return to === null ? null : { text: String(to), href: link.neuron(slug, layer, to), place: [slug, layer, to] };
  };
  const across = (step) => {
    let to = layer + step;
    while (layers[to] !== undefined && described(layers[to]) === 0) to += step;
    if (layers[to] === undefined) return null;
    return { text: `layer ${to}`, href: link.neuron(slug, to, /** @type {number} */ (neighbour(layers[to], unit, 0))) };
  };
  return { previous: beside(-1), next: beside(1), earlier: across(-1), later: across(1) };
}

function Ways({ ways }) {
  const step = (way, label, text) => (way ? html`<a href=${way.href} aria-label=${`${label}: ${way.text}`}>${text(way.text)}</a>`
    : html`<span aria-disabled="true">${text("–")}</span>`);
  return html`<nav class="steps" aria-label="Neighbours">
    ${step(ways.previous, "Previous unit", (text) => `← ${text}`)}${step(ways.next, "Next unit", (text) => `${text} →`)}
    ${step(ways.earlier, "Earlier", (text) => `↑ ${text}`)}${step(ways.later, "Later", (text) => `↓ ${text}`)}</nav>`;
}

/** While the reader looks, the neighbours' rows and pictures come. */
function fetchAhead(ways) {
  for (const way of [ways.next, ways.previous]) {
    if (!way) continue;
    const [slug, layer, unit] = way.place;
    pictureUrl(slug, layer, unit).then(() => fetchNeuron(slug, layer, unit)).catch(() => {}); // told when it is opened
  }
}

function Nearest({ slug, layer, unit }) {
  let entry;
  try {
    entry = findModel(slug).layers[layer];
  } catch {
    return html`<p><a href=${link.home()}>All models of this atlas</a></p>`;
  }
  const nearest = entry && neighbour(entry, unit, 0);
  if (nearest == null) return html`<p><a href=${link.model(slug)}>All layers of ${slug}</a></p>`;
  return html`<p><a href=${link.neuron(slug, layer, nearest)}>Nearest neuron: unit ${nearest}</a> ·
    <a href=${link.layer(slug, layer)}>all neurons of layer ${layer}</a></p>`;
}
