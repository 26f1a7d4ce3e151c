// The page of a map: neurons where they belong by what they fire on; colours, a search among labels, a list of what is chosen.
import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { site, Trouble } from "../data.js";
import { count, percent, plural } from "../format.js";
import { wordsOf } from "../labels.js";
import { Choice, Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";
import { styled } from "../styled.js";
import { Canvas, Keys } from "./canvas.js";
import { Chosen } from "./chosen.js";
import { CHOICES } from "./colours.js";
import { limited, WHOLE } from "./moves.js";
import { openPlane } from "./points.js";

/** The map of a model, or of all: where there is one model alone its own. */
const entryOf = (slug) => (slug !== undefined ? site.models.find((model) => model.slug === slug)?.map : site.map ?? site.models.find(({ map }) => map)?.map) ?? null;

export function MapView({ slug, route }) {
  useTitle(slug === undefined ? "Map" : `${slug}, map`);
  const entry = entryOf(slug);
  const { value, error, stale } = useLoaded(async () => {
    if (entry === null) throw new Trouble(`This site has no map${slug === undefined ? "" : ` of ${slug}`}: \`neuron-atlas site build --map\` adds it, for models whose neurons were measured on images.`);
    return (await Promise.all([openPlane(entry.folder), styled("map.css")]))[0];
  }, [slug]);
  return html`<${Trail} trail=${[["Models", link.home()], ...(slug === undefined ? [] : [[slug, link.model(slug)]]), ["Map", null]]} />
    <h1>Map ${slug !== undefined && html`<span class="of">of ${slug}</span>`}</h1>
    ${error && html`<${Failure} error=${error}><p><a href=${link.home()}>To the start</a></p><//>`}
    ${!error && (stale || value === undefined) && html`<p class="note" aria-busy="true">Reading …</p>`}
    ${!error && !stale && value && entry && html`<${Found} key=${entry.folder} plane=${value} slug=${slug} route=${route} />`}`;
}

function readAsked(/** @type {URLSearchParams} */ query, /** @type {boolean} */ several) {
  const by = query.get("by") ?? "";
  const [x, y, zoom] = (query.get("at") ?? "").split(",").map(Number);
  return { by: by in CHOICES ? by : several ? "model" : "layer", text: query.get("q") ?? "", view: [x, y, zoom].every(Number.isFinite) ? limited({ x, y, zoom }) : WHOLE };
}

function Found({ plane, slug, route }) {
  const several = new Set(plane.index.layers.map(([own]) => own)).size > 1;
  const asked = readAsked(route.query, several);
  const [by, setBy] = useState(asked.by);
  const [text, setText] = useState(asked.text);
  const [view, setView] = useState(asked.view);
  const [only, setOnly] = useState(-1); // kind that is shown alone
  const [chosen, setChosen] = useState(null);
  useEffect(() => {
    setBy(asked.by);
    setText(asked.text);
    setView(asked.view);
  }, [route.query.toString()]);
  useEffect(() => setOnly(-1), [by]);
  useAddress(slug, { by: by === (several ? "model" : "layer") ? "" : by, q: text.trim(), at: view === WHOLE || (view.zoom === 1 && view.x === 0.5 && view.y === 0.5) ? "" : [view.x, view.y, view.zoom].map((one) => Number(one.toPrecision(4))).join() });
  const named = useMemo(() => labelsWith(plane.index.texts, text), [text]);
  const options = Object.entries(CHOICES).filter(([key]) => key !== "model" || several);
  return html`<${Lede} plane=${plane} slug=${slug} />
    <div class="sortbar"><div><span>Colour by</span><${Choice} name="Colour by" value=${by} options=${options} onChange=${setBy} /></div>
      ${plane.index.texts.length > 0 && html`<div><label for="map-label">Label</label><input id="map-label" type="search" value=${text} autocomplete="off" spellcheck=${false}
        placeholder=${plane.index.texts[0]} onInput=${(event) => setText(event.target.value)} /></div>`}
      ${named && html`<p class="counted" role="status">${plural(named.size, "label")} ${named.size === 1 ? "has" : "have"} these words</p>`}</div>
    <${Canvas} plane=${plane} by=${by} named=${named} only=${only} setOnly=${setOnly} view=${view} setView=${setView} setChosen=${setChosen} />
    ${chosen && html`<${Chosen} plane=${plane} ...${chosen} onClose=${() => setChosen(null)} />`}
    <${Keys} /><${Kept} index=${plane.index} />`;
}

/** Numbers of the labels that have all words, or words that begin so; null where nothing is asked. */
function labelsWith(/** @type {string[]} */ texts, /** @type {string} */ asked) {
  const words = wordsOf(asked);
  if (words.length === 0) return null;
  const has = (own) => words.every((word) => own.some((one) => one.startsWith(word)));
  return new Set(texts.flatMap((text, at) => (has(wordsOf(text)) ? [at] : [])));
}

/** The address follows what is seen; Back leads to the page before, not to the view before. */
function useAddress(slug, query) {
  const next = slug === undefined ? link.map(query) : link.modelmap(slug, query);
  const first = useRef(true);
  useEffect(() => {
    if (first.current) return void (first.current = false);
    const timer = setTimeout(() => history.replaceState(history.state, "", next), 300);
    return () => clearTimeout(timer);
  }, [next]);
}

function Lede({ plane, slug }) {
  const { neurons, absent } = plane.index;
  const others = site.models.filter((model) => model.map && model.slug !== slug);
  return html`<p class="lede">${plural(neurons, "neuron")}: near each other are those that fire on the same images, or on images of the same kinds.${absent > 0 && ` ${plural(absent, "neuron")} that no image fires ${absent === 1 ? "has" : "have"} no place.`}</p>
    ${(slug !== undefined ? site.map : others.length > 1) && html`<p class="note by-model">${slug !== undefined ? html`<a href=${link.map()}>All models together</a>` : html`By model: ${others.slice(0, 12).map((model, at) => html`${at > 0 ? ", " : ""}<a href=${link.modelmap(model.slug)}>${model.slug}</a>`)}`}</p>`}`;
}

/** How much of what decides a neuron's place is left of it on a plane, beside a plainer way and chance. */
function Kept({ index: { kept, alike } }) {
  return html`<p class="note kept">Of the 15 nearest of a neuron by all that decides its place, ${percent(kept.map)} are among its 15 nearest here; on the plane of greatest spread ${percent(kept.pca)}, at random ${percent(kept.chance)}.${alike
    && ` Labels, which decide nothing here: ${percent(alike.map)} of the nearest have the same one, at random ${percent(alike.chance)}.`} Only what is near counts: how far apart groups lie, and how large they are, means little.</p>`;
}
