// The neurons that an image of the visitor's excites: the model runs in this browser, and the image stays in it.
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.js";
import { fetchJson, fetchLayer, site, Trouble } from "../data.js";
import { fetchProbeImage } from "../evidence.js";
import { count, figure, plural, spread } from "../format.js";
import { useKeys } from "../keys.js";
import { drawMap, nextOverlay, OVERLAYS, patchBox } from "../maps.js";
import { Choice, Explained, Failure, Trail, useLoaded, usePreference, useTitle } from "../parts.js";
import { link } from "../route.js";
import { runnable, Runner } from "../runner.js";
import { byChance, encodedMap, inWords, ranked } from "../standing.js";
import { styled } from "../styled.js";
import { NeuronTile, Patch } from "../tiles.js";
import { certainty } from "../trust.js";

const SAMPLES = 6; // probe images to begin with
const SHOWN = 24; // neurons at first, and with each press of the button
const LARGE = 448, SMALL = 224; // device pixels of a map's side
const WAYS = OVERLAYS.filter(([key]) => key !== "crop"); // there is no label of this image to compare a crop with

/**
 * @typedef {{name: string, url: string, own?: boolean, image: () => Promise<Blob|ImageBitmap>}} Chosen an image: what shows it (its `own` address, to be
 * given back), and what the model gets
 */

/** The page without a model in its address: the first that runs here. */
export function ImagesPage({ route }) {
  const slug = site.models.find(({ browser }) => browser)?.slug;
  useTitle("An image of yours");
  if (slug !== undefined) return html`<${ImagePage} route=${{ ...route, slug }} />`;
  return html`<h1>An image of yours</h1><${Failure} error=${new Trouble("This site has no model in a form that browsers run. Build it with: neuron-atlas site build ATLAS --in-browser MODEL")} />`;
}

export function ImagePage({ route }) {
  const { slug } = route;
  useLoaded(() => styled("image.css"), []);
  useTitle(`An image of yours, ${slug}`);
  const { total } = runnable(slug);
  const models = site.models.filter(({ browser }) => browser);
  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], ["An image of yours", null]]} />
    <h1>Which neurons does your image excite?</h1>
    <p class="lede">The image never leaves this machine: ${slug} runs in this browser, and nothing is sent. The model and what runs it are
      ${" "}${megabytes(total)}, fetched from this site when you choose an image; then, as on every page, pictures and labels of the neurons shown.</p>
    ${models.length > 1 && html`<div class="sortbar"><label>Model <select value=${slug} onChange=${(event) => (location.hash = link.image(event.target.value))}>
      ${models.map((one) => html`<option key=${one.slug} value=${one.slug}>${one.slug}</option>`)}</select></label></div>`}
    <${Finder} key=${slug} slug=${slug} route=${route} />`;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

function Finder({ slug, route }) {
  const [chosen, setChosen] = useState(/** @type {Chosen|null} */ (null));
  const [progress, setProgress] = useState(/** @type {[number, number]|null} */ (null));
  const [found, setFound] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {Error|null} */ (null));
  const runner = useRef(/** @type {Runner|null} */ (null));
  const turn = useRef(0);
  useEffect(() => () => runner.current?.close(), []);
  useEffect(() => () => { if (chosen?.url.startsWith("blob:") && chosen.own) URL.revokeObjectURL(chosen.url); }, [chosen]);
  /** The runner, once its model is there; one that did not load is made anew the next time. */
  const loaded = async () => {
    const own = (runner.current ??= new Runner(slug, (done, total) => setProgress([done, total])));
    try {
      await own.ready;
    } catch (problem) {
      own.close();
      runner.current = null;
      throw problem;
    }
    setProgress(null);
    return own;
  };
  const take = async (/** @type {Chosen} */ next) => {
    const own = ++turn.current;
    setChosen(next), setError(null), setFound(null);
    try {
      const [image, { layers }, model] = await Promise.all([next.image(), fetchJson(`${runnable(slug).folder}/ranks.json.gz`), loaded()]);
      const { peaks, seconds } = await model.look(image);
      if (own === turn.current) setFound({ order: ranked(layers, peaks), seconds, layers });
    } catch (problem) {
      if (own === turn.current) setError(/** @type {Error} */ (problem));
    }
  };
  return html`<${Chooser} take=${take} slug=${slug} small=${chosen !== null} />
    ${error && html`<${Failure} error=${error} />`}
    ${chosen && !found && !error && html`<p class="note" role="status">${progress === null ? "Looking at the image …" : `Fetching the model, ${megabytes(progress[0])} of ${megabytes(progress[1])} …`}</p>
      <progress max="1" value=${progress === null ? undefined : progress[0] / progress[1]} aria-label="Model"></progress>`}
    ${chosen && found && html`<${Found} key=${turn.current} slug=${slug} chosen=${chosen} found=${found} runner=${runner.current} route=${route} />`}`;
}

/** Where an image is chosen, dropped or pasted, and some probe images to try. */
function Chooser({ take, slug, small }) {
  const [over, setOver] = useState(false);
  const own = (/** @type {File|null|undefined} */ file) => file && take({ name: file.name || "your image", url: URL.createObjectURL(file), own: true, image: async () => file });
  useEffect(() => {
    const paste = (/** @type {ClipboardEvent} */ event) => own([...(event.clipboardData?.files ?? [])].find(({ type }) => type.startsWith("image/")));
    const hold = (/** @type {DragEvent} */ event) => event.preventDefault(); // dropped beside the field the file would replace this page
    addEventListener("paste", paste), addEventListener("dragover", hold), addEventListener("drop", hold);
    return () => (removeEventListener("paste", paste), removeEventListener("dragover", hold), removeEventListener("drop", hold));
  });
  const drop = (event) => (event.preventDefault(), setOver(false), own(event.dataTransfer.files[0]));
  return html`<div class=${small ? "chooser small" : "chooser"}>
    <div class=${over ? "drop over" : "drop"} onDragOver=${(event) => (event.preventDefault(), setOver(true))} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      <label class="button">Choose an image<input type="file" accept="image/*" onChange=${(event) => (own(event.target.files[0]), (event.target.value = ""))} /></label>
      <span class="note">or drop one here, or paste it</span></div>
    <${Samples} slug=${slug} take=${take} /></div>`;
}

function Samples({ slug, take }) {
  const { probe } = runnable(slug), about = site.probes[probe];
  const shown = about?.thumbnails;
  const { value } = useLoaded(async () => (shown ? Promise.all(Array.from({ length: SAMPLES }, (_, at) => fetchProbeImage(probe, Math.floor(((at + 0.5) * about.images) / SAMPLES)))) : []), [probe]);
  const samples = (value ?? []).filter(({ url }) => url);
  if (samples.length === 0) return null;
  const image = (url) => async () => {
    const picture = new Image();
    picture.src = url;
    await picture.decode();
    return createImageBitmap(picture);
  };
  return html`<div class="samples"><span class="note">or take a probe image, in the small form that this site has:</span>
    ${samples.map((one) => html`<button type="button" key=${one.image} aria-label=${`Take ${one.class ?? one.image}`} title=${one.image}
      onClick=${() => take({ name: one.image, url: one.url, image: image(one.url) })}><img src=${one.url} alt="" /></button>`)}</div>`;
}

/** The neurons by layer or all, the map of one of them over the image. */
function Found({ slug, chosen, found, runner, route }) {
  const [most, setMost] = useState(SHOWN);
  const [at, setAt] = useState(0);
  const [overlay, setOverlay] = usePreference("overlay", "spotlight");
  useKeys({ h: () => setOverlay(nextOverlay) }, []);
  const asked = route.query.get("layer");
  const order = found.order.filter(({ layer }) => asked === null || layer === Number(asked));
  const way = WAYS.some(([key]) => key === overlay) ? overlay : "spotlight";
  const setLayer = (event) => { setAt(0), setMost(SHOWN), location.replace(link.image(slug, { layer: event.target.value })); };
  const one = order[at];
  const beyond = order.filter(({ share }) => share === 1).length;
  const expected = byChance(asked === null ? found.layers : { [asked]: found.layers[asked] });
  return html`<section aria-labelledby="found" class="found-neurons"><h2 id="found">Its neurons</h2>
    <div class="sortbar"><label>Layer <select value=${asked ?? ""} onChange=${setLayer}><option value="">all</option>${Object.keys(found.layers).map((layer) => html`<option key=${layer} value=${layer}>${layer}</option>`)}</select></label>
      <div><span>Overlay <kbd>h</kbd></span><${Choice} name="Overlay" value=${way} options=${WAYS} onChange=${setOverlay} /></div></div>
    <p class="note" role="status">${plural(order.length, "neuron")} fire on it; ${plural(beyond, "neuron")} more than on any probe image${", "}where chance would have about ${spread(expected)} were it one more of these.
      The model took ${figure(found.seconds)} s.</p>
    ${one === undefined ? html`<p class="note">No neuron of this layer fires on it.</p>` : html`<div class="mine-and-neurons">
      <${Mine} key=${`${one.layer}/${one.unit}`} slug=${slug} chosen=${chosen} one=${one} runner=${runner} overlay=${way} />
      <div><ol class="neurons-of">${order.slice(0, most).map((each, place) => html`<${Excited} key=${`${each.layer}/${each.unit}`} slug=${slug} one=${each} chosen=${chosen} runner=${runner} overlay=${way}
        pressed=${place === at} press=${() => setAt(place)} />`)}</ol>
        ${most < order.length && html`<button class="plain" type="button" onClick=${() => setMost(most + SHOWN)}>Show ${Math.min(SHOWN, order.length - most)} more</button>`}</div></div>`}
    <p class="note">Order: by <${Explained} name="the strongest patch" column="activation" table="neuron_examples" />, first those that the fewest probe images excite more, and beyond all of
      these by how far. The atlas has each neuron's quantiles and its strongest images one by one; between them a place is interpolated.</p></section>`;
}

/** The map of a neuron on the image, and where its strongest patch is. */
const useMap = (runner, { layer, unit }) => useLoaded(async () => encodedMap(await runner.map(layer, unit)), [layer, unit]).value;

function Shot({ slug, chosen, map, overlay, full, size, alt }) {
  const canvas = useRef(null);
  useEffect(() => void (canvas.current && map && drawMap(canvas.current, map, overlay, full)), [map, overlay, full]);
  const { height, width } = runnable(slug);
  return html`<span class="shot whole" style=${{ aspectRatio: `${width} / ${height}` }}><span class="stack"><img src=${chosen.url} alt=${alt} />
    <canvas width=${size} height=${Math.round((size * height) / width)} ref=${canvas} aria-hidden="true"></canvas>${map && overlay !== "off" && html`<${Patch} box=${patchBox(map)} />`}</span></span>`;
}

function Mine({ slug, chosen, one, runner, overlay }) {
  const map = useMap(runner, one);
  const { height, width } = runnable(slug);
  const words = { heat: `Heat: activation from 0, clear, to ${figure(one.activation)}, yellow.`, spotlight: "Spotlight: the less a patch fires, the darker.", off: "" };
  return html`<figure class="mine"><${Shot} slug=${slug} chosen=${chosen} map=${map} overlay=${overlay} full=${one.activation} size=${LARGE} alt=${`${chosen.name}, the part that the model sees`} />
    <figcaption><b>Layer ${one.layer}, <a href=${link.neuron(slug, one.layer, one.unit)}>unit ${one.unit}</a></b>: ${inWords(one)}; activation ${figure(one.activation)}.
      ${` ${words[overlay]}`} The frame is the strongest patch. The model sees the centre at ${count(width)} × ${count(height)} pixels.</figcaption></figure>`;
}

/** A neuron: its picture beside the image with its map, its label, where the activation stands. */
function Excited({ slug, one, chosen, runner, overlay, pressed, press }) {
  const { layer, unit } = one;
  const map = useMap(runner, one);
  const table = useLoaded(() => fetchLayer(slug, layer), [slug, layer]).value;
  const place = table?.unit.indexOf(unit), label = table?.texts?.[table.label[place]];
  return html`<li class=${pressed ? "chosen" : ""}><div class="pair"><${NeuronTile} slug=${slug} layer=${layer} unit=${unit} bare />
      <button type="button" aria-pressed=${pressed} aria-label=${`Where layer ${layer}, unit ${unit} fires`} onClick=${press}><${Shot} slug=${slug} chosen=${chosen} map=${map} overlay=${overlay} full=${one.activation} size=${SMALL} alt="" /></button></div>
    <p><a href=${link.neuron(slug, layer, unit)}>${label ? html`<span class="label-small">${label}</span>` : `Unit ${unit}`}</a>
      <span class="note">layer ${layer}${label && `, unit ${unit} · ${certainty(table.label_auroc?.[place])} label`}</span><span class="note">${inWords(one)}</span></p></li>`;
}
