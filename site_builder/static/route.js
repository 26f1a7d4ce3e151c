// Hash addresses: the one place that reads and writes them. Pure, so that links survive every host.
import { PAGES } from "./pages/index.js";

/**
 * @typedef {{page: string, slug?: string, layer?: number, unit?: number, head?: number, number?: number, feature?: string,
 *   query: URLSearchParams, hash: string}} Route the page, and the parts of its form
 */

/** Kinds of the parts of an address. @type {Record<string, {form: string, read: (text: string) => any, write: (value: any) => string}>} */
const KINDS = {
  slug: { form: "[a-z0-9-]+", read: String, write: String },
  whole: { form: "\\d+", read: Number, write: String },
  text: { form: "[^/]+", read: decoded, write: encodeURIComponent },
};
const PART = /\{(\w+)(?::(\w+))?\}/;

/** A form of address as what reads it and what writes it. */
function formed(/** @type {string} */ form) {
  const pieces = form.split("/").map((piece) => {
    const [, name, kind = "slug"] = PART.exec(piece) ?? [];
    return name === undefined ? piece : { name, ...KINDS[kind] };
  });
  const parts = pieces.filter((piece) => typeof piece !== "string");
  const pattern = new RegExp(`^${pieces.map((piece) => (typeof piece === "string" ? piece : `(${piece.form})`)).join("/")}$`);
  return {
    /** The parts of a path of this form, or null. */
    read(/** @type {string} */ path) {
      const found = pattern.exec(path);
      return found && Object.fromEntries(parts.map(({ name, read }, at) => [name, read(found[at + 1])]));
    },
    /** The address with these values of its parts and, behind them, a query: a text, or values by name (empty ones are left out). */
    write(/** @type {any[]} */ ...values) {
      const rest = [...values];
      const path = pieces.map((piece) => (typeof piece === "string" ? piece : piece.write(rest.shift()))).join("/");
      const query = queryText(rest[0] ?? "");
      return `#/${path}${query && `?${query}`}`;
    },
  };
}

const queryText = (/** @type {string|Record<string, any>} */ query) => (typeof query === "string" ? query
  : Object.entries(query).filter(([, value]) => (value ?? "") !== "").map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&"));

const FORMS = PAGES.flatMap(({ page, form }) => (form === undefined ? [] : [{ page, ...formed(form) }]));

/** @param {string} hash with or without its leading "#/" @returns {Route} */
export function parseHash(hash) {
  const text = hash.replace(/^#?\/?/, "");
  const cut = text.indexOf("?");
  const path = (cut < 0 ? text : text.slice(0, cut)).replace(/\/+$/, "");
  const query = new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1));
  for (const { page, read } of FORMS) {
    const parts = read(path);
    if (parts) return { page, ...parts, query, hash: path };
  }
  return { page: "unknown", query, hash: path };
}

function decoded(/** @type {string} */ text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone % in an address somebody typed
  }
}

const whole = (/** @type {string|undefined} */ text) => (text === undefined ? undefined : Number(text));

/** Address of each page, by name: link.neuron(slug, layer, unit). @type {Record<string, (...parts: any[]) => string>} */
export const link = Object.fromEntries(FORMS.map(({ page, write }) => [page, write]));

/** The id of a neuron in rows, citations and on the command line. */
export const addressOf = (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) =>
  `${slug}/mlp/${layer}/${unit}`;

/** The id of a head. */
export const headAddressOf = (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ head) =>
  `${slug}/head/${layer}/${head}`;

/** @typedef {{models: {slug: string, model_id: string}[], layer?: number, unit?: number, heads: boolean}} Wanted heads: of attention, not of FFNs; then `unit` is the head */

/**
 * What somebody typed into the jump box: an address in any of the usual spellings, or part of a name.
 * `deit-tiny/mlp/3/41`, `deit_tiny/3/41`, `deit-tiny@3:41`, `deit-tiny/3`, `3/41` and `41` (of the model and
 * layer on screen), or a link copied from the address bar; with `head/` in it, or on a head's page, a head.
 * @param {string} text
 * @param {{slug: string, model_id: string}[]} models
 * @param {Route} here
 * @returns {Wanted}
 */
export function readJump(text, models, here) {
  const pasted = /#\/(.*)$/.exec(text);
  if (pasted) {
    const route = parseHash(pasted[1]);
    const { layer, unit, head } = route;
    return { models: models.filter((model) => model.slug === route.slug), layer, unit: unit ?? head, heads: isOfHeads(route) };
  }
  const plain = text.trim().toLowerCase();
  const parts = /^(?:(.*?)[/@])??(?:(mlp|head)\/)?(\d+)(?:[/:](\d+))?$/.exec(plain);
  let [name, kind, layer, unit] = parts ? [parts[1] ?? "", parts[2], whole(parts[3]), whole(parts[4])] : [plain, undefined, undefined, undefined];
  const last = /(?:^|\/)(mlp|head)$/.exec(name);
  if (last) [name, kind] = [name.slice(0, last.index), last[1]];
  const heads = kind === undefined ? name === "" && isOfHeads(here) : kind === "head";
  if (name === "" && here.slug !== undefined && (layer !== undefined || kind !== undefined)) {
    name = here.slug;
    if (layer !== undefined && unit === undefined && here.layer !== undefined && heads === isOfHeads(here)) [layer, unit] = [here.layer, layer];
  }
  return { models: named(name, models), layer, unit, heads };
}

const isOfHeads = (/** @type {Route} */ { page }) => page === "heads" || page === "head";

/** Models whose slug or id is, else begins with, else contains the name; `_` and `.` count as hyphens. */
function named(/** @type {string} */ name, /** @type {{slug: string, model_id: string}[]} */ models) {
  const plain = (/** @type {string} */ text) =>
    text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  const wanted = plain(name);
  if (wanted === "") return []; // nothing but signs is in no name
  const tests = [
    (/** @type {string} */ text) => text === wanted,
    (/** @type {string} */ text) => text.startsWith(wanted),
    (/** @type {string} */ text) => text.includes(wanted),
  ];
  for (const test of tests) {
    const found = models.filter((model) => test(plain(model.slug)) || test(plain(model.model_id)));
    if (found.length > 0) return found;
  }
  return [];
}
