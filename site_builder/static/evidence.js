// Exciting images, counterparts and Rosetta clusters of a neuron: who reads them, and from where.
import { fetchJson, findModel, folderHolding, number5, once, request, rowsOf, site, Trouble } from "./data.js";

/**
 * @typedef {{unit: number, kind: "top"|"quantile", image: number, name?: string, probe: string, rows: number, columns: number,
 *   row: number, column: number, scale: number, box: number[]|null, activation: number, mean: number, quantile: number,
 *   low: number, high: number, map: string}} Example
 * @typedef {{unit: number, slug: string, layer: number, partner: number, label: string|null, correlation: number, null: number|null,
 *   threshold: number|null, mutual: number, significant: number|null, cluster: number|null}} Match
 * @typedef {{image: string, class?: string, caption?: string, licence?: string, source?: string, url: string|null}} ProbeImage
 */

/** Rows of a neuron in a folder of its layer; null where the atlas has no such folder. */
async function fetchRows(/** @type {"examples"|"matches"} */ kind, slug, layer, unit) {
  folderHolding(slug, layer, unit); // says what there is where the unit is not
  const folder = findModel(slug).layers[layer][kind];
  return folder === undefined ? null : rowsOf(await fetchJson(`${folder}/${number5(unit / site.pack)}.json.gz`), unit);
}

/** Whether this atlas has exciting images of a layer. */
export const hasExamples = (/** @type {string} */ slug, /** @type {number} */ layer) => findModel(slug).layers[layer]?.examples !== undefined;

/** @returns {Promise<Example[]|null>} the strongest first, then those near lower quantiles */
export const fetchExamples = (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) =>
  fetchRows("examples", slug, layer, unit);

/** @returns {Promise<Match[]|null>} by model, the most alike first */
export const fetchMatches = (/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) =>
  fetchRows("matches", slug, layer, unit);

/** What is known of a probe image, with an object URL of its thumbnail where there is one. @returns {Promise<ProbeImage>} */
export async function fetchProbeImage(/** @type {string} */ probe, /** @type {number} */ index) {
  const about = site.probes[probe];
  const number = Math.floor(index / site.probe_bundle);
  const images = await fetchBundle(`${about.folder}/${String(Math.floor(number / 1000)).padStart(2, "0")}/${number5(number)}.images`);
  return images[index % site.probe_bundle];
}

/** The probe image of an example: out of the bundle of its own, where it has one. @param {{probe: string, image: number, bundle?: string, slot?: number}} example @returns {Promise<ProbeImage>} */
export const fetchImageOf = async ({ probe, image, bundle, slot }) => (bundle === undefined ? fetchProbeImage(probe, image) : (await fetchBundle(bundle))[slot ?? 0]);

const fetchBundle = (/** @type {string} */ path) => once(path, async () => readBundle(await (await request(path)).arrayBuffer(), path));

/** What leads to the page of a probe image; nothing where this atlas does not know what the image excites. */
export const knowsExcited = (/** @type {string} */ probe) => site.excited?.[probe] !== undefined;

/** The length of a JSON list as uint32 little-endian, the list, then the WebP files it gives the lengths of. */
export function readBundle(/** @type {ArrayBuffer} */ buffer, /** @type {string} */ path) {
  try {
    const length = new DataView(buffer).getUint32(0, true);
    let start = 4 + length;
    return JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))).map((/** @type {any} */ said) => {
      const webp = new Uint8Array(buffer, start, said.length);
      start += said.length;
      return { ...said, url: said.length > 0 ? URL.createObjectURL(new Blob([webp], { type: "image/webp" })) : null };
    });
  } catch (error) {
    throw new Trouble(`${path} is damaged (${error}). Build and upload the site again.`);
  }
}

/** One Rosetta cluster. @returns {Promise<{members: [string, number, number, string|null][], pairs: [number, number, number, number|null][]}>} */
export async function fetchCluster(/** @type {number} */ number) {
  const about = site.clusters;
  if (about === null) throw new Trouble("This atlas has no Rosetta clusters.");
  if (number >= about.clusters) throw new Trouble(`This atlas has ${about.clusters} Rosetta clusters, 0 to ${about.clusters - 1}.`);
  return (await fetchClusters(Math.floor(number / about.pack)))[number % about.pack];
}

/** The clusters of one pack, in their order. */
export const fetchClusters = (/** @type {number} */ pack) => fetchJson(`${site.clusters?.folder}/${number5(pack)}.json.gz`);

/** The label that at least half of the members of a cluster carry, or nothing. */
export function labelOf(/** @type {{members: [string, number, number, string|null][]}} */ cluster) {
  const counts = new Map();
  for (const [, , , text] of cluster.members) if (text !== null) counts.set(text, (counts.get(text) ?? 0) + 1);
  const [text, count] = [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))[0] ?? ["", 0];
  return 2 * count >= cluster.members.length ? text : ""; // a name that most members contradict is none
}
