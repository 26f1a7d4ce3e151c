// Attention heads: who reads what is said of them, and from where.
import { fetchJson, findModel, number5, rowsOf, site, Trouble } from "./data.js";
import { fine, loss } from "./format.js";

/**
 * @typedef {{layer: number, unit: number, level: "direct"|"through attention", label: string|null, text: string|null,
 *   text_explained: number|null} & Record<string, any>} HeadRow unit: the head; else columns of the table heads
 * @typedef {{unit: number, text: string, explained: number, cumulative: number, deviation: number}} HeadText
 * @typedef {{feature: string, score: number, rank: number, variance_share: number|null, selectivity: number|null, ablation_effect: number|null,
 *   ablation_margin: number|null, ablation_flips: number, feature_set: string}} HeadFeature
 * @typedef {{unit: number, direction: string, image: number, name?: string, probe: string, projection: number, map: string,
 *   rows: number, columns: number, scale: number, elsewhere: number, slot?: number, bundle?: string}} HeadExample slot: its place in the bundle of the head's images
 * @typedef {{layer: number, neuron: number, share: number, label: string|null}} NeuronRead
 */

/** What a component does for a feature beside its score, in words. @returns {string[]} */
export const figuresWords = (/** @type {Record<string, any>} */ row) => [
  has(row.variance_share) ? `${fine(row.variance_share)} of the feature's variance` : "", has(row.selectivity) ? `selectivity ${fine(row.selectivity)}` : "", ...ablationWords(row),
].filter((text) => text !== "");

export const has = (/** @type {any} */ value) => value !== null && value !== undefined;

/** What the manifest says of a model's heads; a model whose heads this atlas has not says so. */
export function headsOf(/** @type {string} */ slug) {
  const { heads, model_id } = findModel(slug);
  if (heads !== null) return heads;
  throw new Trouble(`This atlas has not decomposed the heads of ${slug} (${model_id}).`);
}

/** All heads of a model, from the first layer on, and their scores by feature. @returns {Promise<{rows: HeadRow[], scores: Record<string, (number|null)[]>}>} */
export async function fetchHeads(/** @type {string} */ slug) {
  const table = await fetchJson(`${headsOf(slug).folder}/heads.json.gz`);
  return { rows: rowsOf(table), scores: table.scores };
}

/** One head with everything that is said of it. */
export async function fetchHead(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ head) {
  const { folder, layers, images } = headsOf(slug);
  if (!layers[layer]) throw new Trouble(`${slug} has ${layers.length} attention layers, 0 to ${layers.length - 1}; there is no layer ${layer}.`);
  if (head >= layers[layer]) throw new Trouble(`Attention layer ${layer} of ${slug} has ${layers[layer]} heads, 0 to ${layers[layer] - 1}; there is no head ${head}.`);
  const [all, pack] = await Promise.all([fetchHeads(slug), fetchJson(`${folder}/${number5(layer)}.json.gz`)]);
  const bundle = images ? `${folder}/images/${number5(layer)}-${number5(head)}.images` : undefined;
  const own = (/** @type {string} */ table) => rowsOf(pack[table], head);
  return {
    row: /** @type {HeadRow} */ (all.rows.find((one) => one.layer === layer && one.unit === head)), all: all.rows,
    texts: /** @type {HeadText[]} */ (own("texts")), features: /** @type {HeadFeature[]} */ (own("features")),
    examples: /** @type {HeadExample[]} */ (own("examples").map((one) => ({ ...one, bundle }))), neurons: /** @type {NeuronRead[]} */ (own("neurons")),
  };
}

/** Heads that read a neuron, the one that reads most first. @returns {Promise<{layer: number, head: number, share: number, level: string, label: string|null}[]>} */
export async function fetchReaders(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  const { folder, reads } = headsOf(slug);
  if (Math.floor(unit / site.read_pack) >= (reads[layer] ?? 0)) return [];
  const table = await fetchJson(`${folder}/reads/${number5(layer)}-${number5(unit / site.read_pack)}.json.gz`);
  return rowsOf(table, unit);
}

/** What the list of features says of one, with its number. */
export function findFeature(/** @type {string} */ name) {
  const number = (site.features?.list ?? []).findIndex((one) => one.name === name);
  if (site.features && number >= 0) return { number, entry: site.features.list[number] };
  throw new Trouble(site.features ? `This atlas has no feature “${name}”.` : "This atlas has scored no features.");
}

/**
 * A feature across models, one entry a set of features that has it.
 * @returns {Promise<{name: string, models: {model: number, head: number[], ffn: number[], ablation_margin: number|null, ablation_flips: number|null}[],
 *   rows: Record<string, any>[]}[]>}
 */
export async function fetchFeature(/** @type {string} */ name) {
  const { number } = findFeature(name);
  const { sets } = await fetchJson(`${site.features?.folder}/${number5(number)}.json.gz`);
  return sets.map((/** @type {any} */ told) => ({ ...told, rows: rowsOf(told) }));
}

/** @returns {string[]} */
const ablationWords = (/** @type {Record<string, any>} */ { ablation_effect, ablation_margin, ablation_flips }) => [
  [has(ablation_margin) && `margin ${loss(ablation_margin)} σ`, has(ablation_effect) && `accuracy ${loss(100 * ablation_effect)} points`]
    .filter(Boolean).join(", ").replace(/^(?=.)/, "ablation: "),
  `flips ${fine(ablation_flips)} of images`,
];
