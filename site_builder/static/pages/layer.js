// All neurons of a layer on one wall; sort and filter live in the address.
import { html, useEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { fetchFirst, fetchLayer, fetchModel, findModel } from "../data.js";
import { ordered, possible, readAsked, writeAsked } from "../filters.js";
import { count, grids, plural } from "../format.js";
import { useKeys } from "../keys.js";
import { Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { thumbsSeen } from "../pictures.js";
import { link } from "../route.js";
import { Wall } from "../wall.js";

const NAMES = { show: "Show", label: "Label", fires: "Fires on", verdict: "Verdict", picture: "Picture" };

export function LayerPage({ route }) {
  const { slug, layer } = route;
  useTitle(`${slug}, layer ${layer}`);
  const asked = readAsked(route.query);
  const plain = writeAsked(asked) === ""; // any other order or choice needs the figures of all
  const first = useLoaded(async () => (plain ? fetchFirst(slug, layer) : null), [slug, layer]);
  const wall = useLoaded(() => (plain ? fetchAfterFirst : fetchLayer)(slug, layer), [slug, layer]);
  const model = useLoaded(() => fetchModel(slug), [slug]);
  const set = (next) => location.replace(link.layer(slug, layer, writeAsked({ ...asked, ...next })));
  useKeys({ u: () => (location.hash = link.model(slug)) }, [slug]);
  const error = wall.error ?? model.error;
  const whole = wall.stale ? undefined : wall.value;
  const current = whole ?? (first.stale || !plain ? undefined : first.value);
  const site = model.stale ? undefined : model.value?.sites[layer];
  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], [`Layer ${layer}`, null]]} />
    <${Head} slug=${slug} layer=${layer} site=${site} />
    ${error && html`<${Failure} error=${error}><p><a href=${link.model(slug)}>All layers of ${slug}</a></p><//>`}
    ${!error && current && html`<${Found} key=${`${slug}/${layer}`} slug=${slug} layer=${layer} table=${current} asked=${asked} set=${set} />`}`;
}

/** The whole table; of a wide layer after the first of it and their pictures, which the reader sees before. */
async function fetchAfterFirst(slug, layer) {
  if ((await fetchFirst(slug, layer)) !== null) await thumbsSeen(slug, layer);
  return fetchLayer(slug, layer);
}

function Head({ slug, layer, site }) {
  const layers = findModelLayers(slug);
  const step = (to, text) => (layers[to]?.folder ? html`<a href=${link.layer(slug, to)}>${text}</a>` : html`<span aria-disabled="true">${text}</span>`);
  return html`<div class="head"><div><h1>Layer ${layer} <span class="of">of ${slug}</span></h1>
      <p class="lede">${site ? html`<code>${site.path}</code> · ${grids(site.grids)} tokens · ${plural(site.width, "unit")} · ${site.activation_function}` : "\u00a0"}</p></div>
    <nav class="steps" aria-label="Layers">${step(layer - 1, "↑ earlier")}${step(layer + 1, "↓ later")}</nav></div>`;
}

function findModelLayers(slug) {
  try {
    return findModel(slug).layers;
  } catch {
    return []; // the failure itself is told below the head
  }
}

function Found({ slug, layer, table, asked, set }) {
  const order = useMemo(() => ordered(table, asked), [table, writeAsked(asked)]);
  const { sorts, filters } = possible(table);
  const all = table.of ?? table.unit.length; // of a wide layer the first come first, in the order that nobody asked for
  const listed = table.of ?? order.length;
  return html`<div class="sortbar">
      <${Select} name="sort" label="Order by" value=${asked.sort} options=${sorts} onChange=${(sort) => set({ sort })} />
      ${filters.map(([name, options]) => html`<${Select} key=${name} name=${name} label=${NAMES[name]} value=${asked[name]} options=${options}
        onChange=${(value) => set({ [name]: value })} />`)}
      ${table.label && html`<${LabelText} value=${asked.text} texts=${table.texts} onChange=${(text) => set({ text })} />`}
      <p class="counted" role="status">${listed === all ? plural(all, "neuron") : `${count(listed)} of ${plural(all, "neuron")}`}</p>
    </div>
    ${order.length === 0 ? html`<p class="note">No neuron of this layer fits. <a href=${link.layer(slug, layer)}>Show all</a></p>`
      : html`<${Wall} key=${writeAsked(asked)} slug=${slug} layer=${layer} table=${table} order=${order} listed=${listed} />`}`;
}

function Select({ name, label, value, options, onChange }) {
  return html`<div><label for=${`by-${name}`}>${label}</label><select id=${`by-${name}`} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${options.map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}</select></div>`;
}

/** Words of labels; the wall follows a moment after the last key. */
function LabelText({ value, texts, onChange }) {
  const [text, setText] = useState(value);
  const timer = useRef(0);
  useEffect(() => setText(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (event) => {
    const next = event.target.value;
    setText(next);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChange(next.trim()), 250);
  };
  return html`<div><label for="by-text">Label text</label><input id="by-text" type="search" list="texts" value=${text} onInput=${type}
      placeholder=${texts[0] ?? ""} autocomplete="off" spellcheck=${false} />
    <datalist id="texts">${texts.slice(0, 300).map((one) => html`<option key=${one} value=${one}></option>`)}</datalist></div>`;
}
