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
  return rankedBy(words, await Promise.all(words.map((word) => labelsWith(word, index))));
}

/** What somebody may have meant by a text that finds nothing: with each unknown word exchanged for the nearest of the index. */
export async function nearestWords(/** @type {string} */ text, index = site.search) {
  const words = wordsOf(text);
  if (index === null || words.length === 0) return "";
  const known = /** @type {string[]} */ (await fetchJson(`${index.folder}/words.json.gz`));
  const near = words.map((word) => (known.some((one) => one.startsWith(word)) ? word : nearestOf(word, known)));
  return near.some((word) => word === "") || near.join() === words.join() ? "" : near.join(" ");
}

/** The word with the fewest letters put in, left out, exchanged or swapped: one at most in short words, two in longer ones. */
function nearestOf(/** @type {string} */ word, /** @type {string[]} */ known) {
  const most = [...word].length < 4 ? 0 : [...word].length < 7 ? 1 : 2;
  const found = known.map((one) => /** @type {[number, string]} */ ([distance(word, one, most), one])).filter(([steps]) => steps <= most);
  return found.sort((a, b) => a[0] - b[0])[0]?.[1] ?? "";
}

/** Damerau's distance of two words, as far as it is `most` or less. */
export function distance(/** @type {string} */ one, /** @type {string} */ other, most = Infinity) {
  const [a, b] = [[...one], [...other]];
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let [earlier, last] = [/** @type {number[]} */ ([]), b.map((_, at) => at).concat(b.length)];
  for (let row = 1; row <= a.length; row++) {
    const next = [row];
    for (let at = 1; at <= b.length; at++) {
      const same = a[row - 1] === b[at - 1];
      next[at] = Math.min(last[at] + 1, next[at - 1] + 1, last[at - 1] + (same ? 0 : 1));
      if (row > 1 && at > 1 && a[row - 1] === b[at - 2] && a[row - 2] === b[at - 1]) next[at] = Math.min(next[at], earlier[at - 2] + 1);
    }
    [earlier, last] = [last, next];
  }
  return last[b.length];
}

/** Labels that hold every word. @param {string[]} words @param {Map<number, FoundText>[]} found by word */
const rankedBy = (words, found) => ordered(words, [...found[0].values()].filter(({ number }) => found.every((one) => one.has(number))));

/** Texts that a query finds among some that are all at hand: every word of it is a word of theirs, or begins one. @param {string} text @param {FoundText[]} texts */
export function findAmong(text, texts) {
  const words = wordsOf(text);
  return words.length === 0 ? [] : ordered(words, texts.filter((one) => words.every((word) => wordsOf(one.text).some((own) => own.startsWith(word)))));
}

/** The text itself first, then those with the words whole, shorter ones first, then what more carry: as atlas_schema/searching.py ranks. @param {string[]} words @param {FoundText[]} common */
function ordered(words, common) {
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

/** Neurons of a label, the most certain first. @returns {Promise<{slug: string, layer: number, unit: number, z: number|null, auroc: number|null, verdict: number}[]>} verdict: a place among VERDICTS, or -1 */
export async function fetchLabelled(/** @type {number} */ number) {
  const rows = await fetchPostings(number, /** @type {import("./data.js").SearchIndex} */ (site.search));
  return rows.map(([model, layer, unit, z, auroc, verdict]) => ({ slug: site.models[model].slug, layer, unit, z, auroc, verdict }));
}

/** What a pack holds of a text: rows as search_index.py writes them. @returns {Promise<any[][]>} */
export async function fetchPostings(/** @type {number} */ number, /** @type {import("./data.js").SearchIndex} */ index) {
  return (await fetchJson(`${index.folder}/t/${number5(number / index.pack)}.json.gz`))[number % index.pack];
}
