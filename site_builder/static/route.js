// Hash addresses: the one place that reads and writes them. Pure, so that links survive every host.

/**
 * @typedef {{page: "home"|"model"|"layer"|"neuron"|"heads"|"head"|"feature"|"features"|"cluster"|"clusters"|"search"|"help"|"random"|"unknown",
 *   slug?: string, layer?: number, unit?: number, number?: number, feature?: string, query: URLSearchParams, hash: string}} Route
 *   unit: of a head's page the head
 */

/** @type {[Route["page"], RegExp][]} */
const FORMS = [
  ["neuron", /^n\/([a-z0-9-]+)\/(\d+)\/(\d+)$/],
  ["layer", /^m\/([a-z0-9-]+)\/(\d+)$/],
  ["model", /^m\/([a-z0-9-]+)$/],
  ["head", /^h\/([a-z0-9-]+)\/(\d+)\/(\d+)$/],
  ["heads", /^h\/([a-z0-9-]+)$/],
  ["feature", /^f\/([^/]+)$/],
  ["features", /^features$/],
  ["cluster", /^r\/(\d+)$/],
  ["clusters", /^rosetta$/],
  ["search", /^s$/],
  ["help", /^help$/],
  ["random", /^r$/],
  ["home", /^$/],
];

/** @param {string} hash with or without its leading "#/" @returns {Route} */
export function parseHash(hash) {
  const text = hash.replace(/^#?\/?/, "");
  const cut = text.indexOf("?");
  const path = (cut < 0 ? text : text.slice(0, cut)).replace(/\/+$/, "");
  const query = new URLSearchParams(cut < 0 ? "" : text.slice(cut + 1));
  for (const [page, form] of FORMS) {
    const found = form.exec(path);
    if (found) {
      if (page === "cluster") return { page, number: Number(found[1]), query, hash: path };
      if (page === "feature") return { page, feature: decoded(found[1]), query, hash: path };
      const [, slug, layer, unit] = found;
      return { page, slug, layer: whole(layer), unit: whole(unit), query, hash: path };
    }
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

export const link = {
  home: () => "#/",
  help: () => "#/help",
  random: () => "#/r",
  cluster: (/** @type {number} */ number) => `#/r/${number}`,
  clusters: (page = 0) => (page > 0 ? `#/rosetta?page=${page + 1}` : "#/rosetta"),
  model: (/** @type {string} */ slug, query = "") => `#/m/${slug}${query ? "?" + query : ""}`,
  layer: (/** @type {string} */ slug, /** @type {number} */ layer, query = "") =>
    `#/m/${slug}/${layer}${query ? "?" + query : ""}`,
  neuron: (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) =>
    `#/n/${slug}/${layer}/${unit}`,
  heads: (/** @type {string} */ slug, by = "") => `#/h/${slug}${by === "" ? "" : `?by=${encodeURIComponent(by)}`}`,
  head: (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ head) => `#/h/${slug}/${layer}/${head}`,
  features: () => "#/features",
  feature: (/** @type {string} */ name, query = "") => `#/f/${encodeURIComponent(name)}${query ? "?" + query : ""}`,
  search: (/** @type {string} */ text, slug = "") => `#/s?q=${encodeURIComponent(text)}${slug === "" ? "" : `&m=${slug}`}`,
};

/** The id of a neuron in rows, citations and on the command line. */
export const addressOf = (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) =>
  `${slug}/mlp/${layer}/${unit}`;

/** The id of a head. */
export const headAddressOf = (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ head) =>
  `${slug}/head/${layer}/${head}`;

/** @typedef {{models: {slug: string, model_id: string}[], layer?: number, unit?: number, heads: boolean}} Wanted heads: of attention, not of FFNs */

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
    const { layer, unit } = route;
    return { models: models.filter((model) => model.slug === route.slug), layer, unit, heads: isOfHeads(route) };
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
  const plain = (/** @type {string} */ text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  const wanted = plain(name);
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
