// Small pieces that several pages share.
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { site, Trouble } from "./data.js";
import { figure } from "./format.js";
import { PAGES } from "./pages/index.js";
import { pictureUrl } from "./pictures.js";
import { link } from "./route.js";

/**
 * The value of a promise, or why there is none. While the next value loads the last one is still given, as `stale`:
 * a page may keep it in place, but must not show it under the new name.
 * @template T @param {() => Promise<T>} load @param {any[]} inputs
 * @returns {{value: T|undefined, error: Error|undefined, stale: boolean}}
 */
export function useLoaded(load, inputs) {
  const [state, setState] = useState({ value: undefined, error: undefined, of: "" });
  const of = JSON.stringify(inputs);
  useEffect(() => {
    let current = true;
    Promise.resolve().then(load).then(
      (value) => current && setState({ value, error: undefined, of }),
      (error) => current && setState({ value: undefined, error, of }),
    );
    return () => void (current = false);
  }, inputs);
  return { ...state, error: state.of === of ? state.error : undefined, stale: state.of !== of };
}

/** The name of the page in the browser's tab. */
export function useTitle(/** @type {string} */ title) {
  useEffect(() => {
    document.title = title === "" ? site.title : `${title} · ${site.title}`;
  }, [title]);
}

/** Why a page or a part of it has nothing to show, and what to do. */
export function Failure({ error, children }) {
  if (!(error instanceof Trouble)) console.error(error);
  return html`<div class="failure" role="alert"><p>${error.message}</p>${children}</div>`;
}

let explanations = 0;

/**
 * A part whose script is read when it is first shown: most visitors of a neuron never see a head.
 * @param {{load: () => Promise<Record<string, any>>, name: string, props: Record<string, any>}} props name: of the part in its module
 */
export function Lazy({ load, name, props }) {
  const { value, error, stale } = useLoaded(() => load().catch((problem) => {
    throw new Trouble(`The script of this page could not be read (${problem}). Check the connection, then reload the page.`);
  }), [name]);
  if (error) return html`<${Failure} error=${error} />`;
  const Part = stale ? undefined : value?.[name];
  return Part === undefined ? html`<p class="note" aria-busy="true">Reading …</p>` : html`<${Part} ...${props} />`;
}

/** What a column means: a button that opens its one sentence below the figure. */
export function useExplanation(name, column, table, tag = "dd") {
  const [open, setOpen] = useState(false);
  const [serial] = useState(() => explanations++); // one column may be explained at several places of a page
  const about = site.columns[table]?.[column];
  if (about === undefined) return [null, null];
  const id = `means-${serial}`;
  return [
    html`<button class="why" type="button" aria-expanded=${open} aria-controls=${id}
      aria-label=${`What is ${name}?`} onClick=${() => setOpen(!open)}>?</button>`,
    open && html`<${tag} class="means" id=${id}>${about.means}. <code>${table}.${column}</code><//>`,
  ];
}

/** One figure with its unit, what it is compared with, and its explanation. */
export function Figure({ name, column, table = "neurons", value, unit, compare, children }) {
  const [button, sentence] = useExplanation(name, column, table);
  const about = site.columns[table]?.[column];
  const missing = value === null || value === undefined;
  return html`<div class="figure">
    <dt>${name}${button}</dt>
    <dd class="value">${children ?? html`<b>${typeof value === "number" ? figure(value) : (value ?? "–")}</b>`}
      ${!missing && unit && html` <span class="unit">${unit}</span>`}</dd>
    <dd class="compare">${missing ? (about?.absent ?? "") : compare}</dd>
    ${sentence}
  </div>`;
}

/** A word with the sentence of its column behind a question mark. */
export function Explained({ name, column, table = "neurons", children }) {
  const [button, sentence] = useExplanation(name, column, table, "span");
  return html`<span class="explained">${children ?? name}${button}${sentence}</span>`;
}

/** Text that a click copies; says so for a moment. */
export function Copy({ text, children }) {
  const [done, setDone] = useState("");
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone("Copied");
    } catch {
      setDone("Select the text and copy it"); // no clipboard outside https and localhost
    }
    timer.current = setTimeout(() => setDone(""), 2000);
  };
  return html`<button class="plain copy" type="button" onClick=${copy}>
    <span aria-live="polite">${done === "" ? (children ?? "Copy") : done}</span></button>`;
}

export function Snippet({ title, text, wrapped }) {
  return html`<figure class="snippet"><figcaption><span>${title}</span><${Copy} text=${text} /></figcaption>
    <pre tabindex="0" class=${wrapped ? "wrapped" : ""}><code>${text}</code></pre></figure>`;
}

/** The picture in its reserved box: mean colour first, then the dataset's own pixels; or why they are missing. */
export function Picture({ slug, layer, unit, size, color, alt, pixelated }) {
  const { value, error, stale } = useLoaded(() => pictureUrl(slug, layer, unit), [slug, layer, unit]);
  const [height, width] = size;
  return html`<div class="picture" style=${{ aspectRatio: `${width} / ${height}`, backgroundColor: color ?? "" }}>
    ${error && html`<${Failure} error=${error} />`}
    ${value && !stale && html`<img src=${value} alt=${alt} width=${width} height=${height} draggable=${false}
      class=${pixelated ? "pixelated" : ""} />`}
  </div>`;
}

/** A choice of a few, as one group of buttons. @param {{name: string, value: string, options: [string, string][], onChange: (key: string) => void}} props */
export function Choice({ name, value, options, onChange }) {
  return html`<div class="choice" role="group" aria-label=${name}>
    ${options.map(([key, label]) => html`<button type="button" key=${key} aria-pressed=${key === value}
      onClick=${() => onChange(key)}>${label}</button>`)}
  </div>`;
}

/**
 * Words that lead to pages of this atlas: from the home page, or of a model.
 * @param {any} about the manifest, or the model's entry in it
 */
export const entries = (about, ofModel = false) => PAGES.filter(({ form = "" }) => /\/\{slug\}$/.test(form) === ofModel)
  .map(({ entry }) => entry?.(about, { html, link })).filter(Boolean);

/** Where one is: links from the atlas down. @param {{trail: [string, string|null][]}} props */
export function Trail({ trail }) {
  return html`<nav class="trail" aria-label="Where you are"><ol>
    ${trail.map(([text, href]) => html`<li key=${text}>${href === null
      ? html`<span aria-current="page">${text}</span>` : html`<a href=${href}>${text}</a>`}</li>`)}
  </ol></nav>`;
}

/**
 * A preference of the reader, kept in this browser where it lets us. What follows from the last value is set by a
 * function of it: keys may come faster than pages are drawn.
 * @returns {[string, (next: string | ((last: string) => string)) => void]}
 */
export function usePreference(name, fallback) {
  const [value, setValue] = useState(() => readPreference(name) ?? fallback);
  const last = useRef(value);
  const set = (next) => {
    last.current = typeof next === "function" ? next(last.current) : next;
    setValue(last.current);
    try {
      localStorage.setItem(`neuron-atlas.${name}`, last.current);
    } catch {
      // storage is switched off: the choice holds until the page is left
    }
  };
  return [value, set];
}

/** What was chosen before, or null. */
export function readPreference(/** @type {string} */ name) {
  try {
    return localStorage.getItem(`neuron-atlas.${name}`);
  } catch {
    return null;
  }
}
