// Search by label, in the browser: words lead to labels, labels to neurons (see search_index.py for the files).
import { fetchJson, number5, site } from "./data.js";

/** @typedef {{number: number, text: string, neurons: number, exact: boolean}} FoundText */

/** Words of a text: lower case, without accents. */
export const wordsOf = (/** @type {string} */ text) =>
  [...new Set(text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "").split(/[^\p{L}\p{N}]+/u).filter((word) => word !== ""))];

/**
 * Labels that hold every word of the text, or words that begin so: the text itself first.
 * @param {string} text @param {import("./data.js").SearchIndex|null} index of neurons' labels, or of what heads say
 * @returns {Promise<FoundText[]>}
 */
export async function findLabels(text, index = site.search) {
  const words = wordsOf(text);
  if (index === null || words.length === 0) return [];
  const found = await Promise.all(words.map((word) => labelsWith(word, index)));
  const common = [...found[0].values()].filter(({ number }) => found.every((one) => one.has(number)));
  const rank = (/** @type {FoundText} */ one) => {
    const own = wordsOf(one.text);
    const exact = words.every((word) => own.includes(word));
    return (exact ? 0 : 100) + (exact && own.length === words.length ? 0 : Math.min(own.length, 50));
  };
  return common
    .map((one) => ({ ...one, exact: words.every((word) => wordsOf(one.text).includes(word)) }))
    .sort((a, b) => rank(a) - rank(b) || b.neurons - a.neurons || a.number - b.number);
}

/** Labels with a word that begins so. @returns {Promise<Map<number, FoundText>>} */
async function labelsWith(/** @type {string} */ start, /** @type {import("./data.js").SearchIndex} */ index) {
  const head = [...start].slice(0, index.prefix).join("");
  const prefixes = index.prefixes.filter((prefix) => prefix.startsWith(head));
  const shards = await Promise.all(prefixes.map((prefix) => fetchJson(`${index.folder}/w/${fileName(prefix)}.json.gz`)));
  const found = new Map();
  for (const shard of shards) {
    for (const [word, texts] of Object.entries(shard)) {
      if (!word.startsWith(start)) continue;
      for (const [number, text, neurons] of texts) found.set(number, { number, text, neurons, exact: false });
    }
  }
  return found;
}

const fileName = (/** @type {string} */ prefix) =>
  prefix === "" ? "all" : [...prefix].map((letter) => /** @type {number} */ (letter.codePointAt(0)).toString(16)).join("-");

/** Neurons of a label, the most certain first. @returns {Promise<{slug: string, layer: number, unit: number, z: number|null, auroc: number|null}[]>} */
export async function fetchLabelled(/** @type {number} */ number) {
  const rows = await fetchPostings(number, /** @type {import("./data.js").SearchIndex} */ (site.search));
  return rows.map(([model, layer, unit, z, auroc]) => ({ slug: site.models[model].slug, layer, unit, z, auroc }));
}

/** Heads that a text describes, those first of whose variance it explains most. @returns {Promise<{slug: string, layer: number, head: number, explained: number}[]>} */
export async function fetchSaid(/** @type {number} */ number) {
  const rows = await fetchPostings(number, /** @type {import("./data.js").SearchIndex} */ (site.head_search));
  return rows.map(([model, layer, head, explained]) => ({ slug: site.models[model].slug, layer, head, explained }));
}

async function fetchPostings(/** @type {number} */ number, /** @type {import("./data.js").SearchIndex} */ index) {
  return (await fetchJson(`${index.folder}/t/${number5(number / index.pack)}.json.gz`))[number % index.pack];
}
