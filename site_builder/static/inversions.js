// Inversions of a model: who reads them, and from where.
import { fetchJson, findModel, number5, once, request, Trouble } from "./data.js";
import { readBundle } from "./evidence.js";
import { tileStyle } from "./pictures.js";
import { link } from "./route.js";

const [SHEET, COLUMNS, BUNDLE] = [64, 8, 8]; // targets of a sheet of thumbnails, tiles of its row, pictures of a bundle

/**
 * @typedef {{at: number, id: string, target: string, kind: "class"|"text"|"head", recipe: string, variant: number, score: number|null,
 *   rank: number|null, rivals: number|null, natural_right: number|null, natural_score: number|null, read: [number, number]|null,
 *   head: string|null, direction: string|null, projection: number|null, deviations: number|null}} Listed
 *   at: its place in the model's list; id: what follows the model in its address; read: so many of so many other models put the class first
 */

function entryOf(/** @type {string} */ slug) {
  const entry = findModel(slug).inversions;
  if (!entry) throw new Trouble(`This atlas has no inversions of ${slug}.`);
  return entry;
}

/** What the address of an inversion asks for besides the target. */
export const asked = (/** @type {Listed} */ { recipe, variant }) => ({ by: recipe, ...(variant ? { v: String(variant) } : {}) });

/** Address of the page of an inversion, by what follows the model in its own. */
export function pageOf(/** @type {string} */ slug, /** @type {string} */ id, query = {}) {
  const [kind, ...rest] = id.split("/");
  return kind === "head" ? link.headpicture(slug, ...rest, query) : link.inversion(slug, kind, ...rest, query);
}

/** All inversions of a model: classes by index, then heads, then texts. @returns {Promise<Listed[]>} */
export function fetchInversions(/** @type {string} */ slug) {
  const { folder } = entryOf(slug);
  return once(`inversions ${folder}`, async () => {
    const columns = Object.entries(await fetchJson(`${folder}/index.json.gz`));
    return columns[0][1].map((/** @type {any} */ _, /** @type {number} */ at) =>
      ({ at, ...Object.fromEntries(columns.map(([name, values]) => [name, values[at]])) }));
  });
}

/** Of each target and recipe the first listed: of several variants the one that other models read best. @param {Listed[]} all */
export const firsts = (all) => {
  const seen = new Set();
  return all.filter(({ id, recipe }) => !seen.has(`${id} ${recipe}`) && seen.add(`${id} ${recipe}`));
};

/** All that is said of an inversion, with an object URL of its picture. @returns {Promise<Record<string, any>>} */
export async function fetchInversion(/** @type {string} */ slug, /** @type {number} */ at) {
  const path = `${entryOf(slug).folder}/${number5(at / BUNDLE)}.images`;
  const bundle = await once(path, async () => readBundle(await (await request(path)).arrayBuffer(), path));
  return bundle[at % BUNDLE];
}

/** Style that shows the thumbnail of the inversion at a place of a model's list of so many. */
export function thumbOf(/** @type {string} */ slug, /** @type {number} */ at, /** @type {number} */ total) {
  const sheet = Math.floor(at / SHEET);
  const rows = Math.ceil(Math.min(SHEET, total - sheet * SHEET) / COLUMNS);
  return tileStyle(`${entryOf(slug).folder}/${number5(sheet)}.webp`, at % SHEET, COLUMNS, rows);
}

/** Whether a target's name holds all words of a text; case and accents aside. */
export function saysAll(/** @type {string} */ target, /** @type {string} */ text) {
  const folded = (/** @type {string} */ one) => one.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
  return folded(text).split(/\s+/).filter(Boolean).every((word) => folded(target).includes(word));
}
