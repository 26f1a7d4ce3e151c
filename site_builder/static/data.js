// Everything the site reads, and what it says when reading fails: the manifest in index.html, gzip JSON packs, bundles of WebP pictures.

/**
 * @typedef {{width: number, folder: string|null, ranges: [number, number][], bundle: number, pictures?: string, further: number, examples?: string,
 *   matches?: string}} LayerEntry
 * @typedef {{folder: string, layers: number[], reads: number[], images: boolean, texts: boolean, labelled: number}} HeadsEntry
 *   layers: heads of each attention layer; reads: files of each FFN layer that say which heads read which neurons; images: whether the images of a head are one file
 * @typedef {{slug: string, model_id: string, family: string, source: string, neurons: number, described: number,
 *   inactive: number, labelled: number, stages: string[], file: string, depth: string|null, layers: LayerEntry[],
 *   heads: HeadsEntry|null, inversions: {folder: string, rows: number}|null, map?: {folder: string, neurons: number},
 *   browser: BrowserEntry|null}} ModelEntry
 * @typedef {{folder: string, bytes: number, height: number, width: number, resampling: string, probe: string}} BrowserEntry
 *   a model that browsers run: bytes of its graph, what it takes and how images are resized to it
 * @typedef {{folder: string, prefix: number, prefixes: string[], pack: number, texts: number, neurons: number, faces?: string, near?: string}} SearchIndex
 * @typedef {{name: string, models: number, heads: number, ffns: number, best: [number, "head"|"ffn", number, number|null, number][]}} FeatureEntry
 * @typedef {{title: string, schema: string, images: {mode: "sprite"|"range"|"files", base: string},
 *   pack: number, first: number,
 *   columns: Record<string, Record<string, {means: string, unit: string, absent: string}>>,
 *   stages: [string, string, string, string][],
 *   models: ModelEntry[], wall: {file: string, side: number, columns: number, rows: number,
 *   tiles: ([number, number, number]|null)[]}|null, dataset: string, frame: string,
 *   probes: Record<string, {folder: string, images: number, thumbnails: boolean}>, probe_bundle: number,
 *   excited: Record<string, {folder: string, images: number, pack: number, kept: number, most: number}>,
 *   clusters: {folder: string, clusters: number, pack: number}|null, cluster_search: SearchIndex|null,
 *   search: SearchIndex|null, read_pack: number, head_search: SearchIndex|null,
 *   features: {folder: string, list: FeatureEntry[]}|null,
 *   map?: {folder: string, neurons: number}|null,
 *   start: {file: string, neurons: [string, number, number, number, string|null][]}|null, start_head: [string, number, number, string]|null,
 *   cards: "neurons"|"packs"|"layers"|null, cluster_cards: number, revision: string, growing?: true,
 *   runtime: {folder: string, bytes: number}|null}} Manifest
 */

// stages: name as the dataset's columns have it, `run --stages` that adds it, what a model then has, in a sentence what it adds

/** An error whose message is meant for the reader of the page. */
export class Trouble extends Error {}

/** @type {Manifest} */
export const site = JSON.parse(document.getElementById("manifest")?.textContent ?? "null");

/** @type {Map<string, Promise<any>>} */
const kept = new Map();

/** Remember a promise by name; a failed one is forgotten, so that the next visit tries again. */
function once(/** @type {string} */ name, /** @type {() => Promise<any>} */ make) {
  const known = kept.get(name);
  if (known !== undefined) return known;
  const made = make();
  kept.set(name, made);
  made.catch(() => kept.delete(name));
  return made;
}

const absolute = (/** @type {string} */ path) => new URL(path, document.baseURI).href;

/** @param {string} path @param {RequestInit} [init] @returns {Promise<Response>} */
async function request(path, init) {
  const url = absolute(path);
  let response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    throw new Trouble(`${path} could not be reached (${error}). Check the connection, then reload the page.`);
  }
  if (!response.ok) {
    if (site.growing) location.reload();
    throw new Trouble(
      `${path}: the server answered ${response.status}. The upload of this site is incomplete or older than ` +
        "this page: reload; if it stays so, build and upload the site again.",
    );
  }
  return response;
}

/** Parsed JSON of a file that is gzip or, where a server has unpacked it already, plain. */
export function fetchJson(/** @type {string} */ path) {
  return once(path, async () => {
    const bytes = new Uint8Array(await (await request(path)).arrayBuffer());
    const packed = bytes[0] === 0x1f && bytes[1] === 0x8b;
    const stream = packed ? new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")) : bytes;
    try {
      return await new Response(stream).json();
    } catch (error) {
      throw new Trouble(`${path} is damaged (${error}). Build and upload the site again.`);
    }
  });
}

/** Ends a sentence on what an atlas lacks: of one that is still being made, that more is to come. */
const soFar = site?.growing ? " so far; more of it is being made." : ".";

export function findModel(/** @type {string} */ slug) {
  const model = site.models.find((entry) => entry.slug === slug);
  if (model === undefined) throw new Trouble(`This atlas has no model “${slug}”${soFar}`);
  return model;
}

export function findLayer(/** @type {string} */ slug, /** @type {number} */ layer) {
  const model = findModel(slug);
  const entry = model.layers[layer];
  if (entry === undefined) {
    throw new Trouble(`${slug} has ${model.layers.length} layers, 0 to ${model.layers.length - 1}; there is no layer ${layer}.`);
  }
  return { model, entry };
}

/** Folder of a layer's files; a layer that this atlas does not describe says so. */
export function folderOf(/** @type {string} */ slug, /** @type {number} */ layer) {
  const { entry } = findLayer(slug, layer);
  if (entry.folder === null) throw new Trouble(`This atlas describes no neuron of layer ${layer} of ${slug}${soFar}`);
  return entry.folder;
}

export const holds = (/** @type {LayerEntry} */ entry, /** @type {number} */ unit) =>
  entry.ranges.some(([start, stop]) => unit >= start && unit < stop);

export const described = (/** @type {LayerEntry} */ entry) =>
  entry.ranges.reduce((sum, [start, stop]) => sum + stop - start, 0);

/** The described unit nearest to `unit` in a direction (-1, +1), or nearest at all (0); null at the end. */
export function neighbour(/** @type {LayerEntry} */ entry, /** @type {number} */ unit, /** @type {number} */ step) {
  const ends = entry.ranges.flatMap(([start, stop]) => [start, stop - 1]);
  if (holds(entry, unit + step)) return unit + step;
  const candidates = ends.filter((end) => (step === 0 ? true : step < 0 ? end < unit : end > unit));
  if (candidates.length === 0) return null;
  return candidates.reduce((best, end) => (Math.abs(end - unit) < Math.abs(best - unit) ? end : best));
}

/** Folder of a layer that describes the unit; otherwise the error says what there is. */
export function folderHolding(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  const { entry } = findLayer(slug, layer);
  const folder = folderOf(slug, layer);
  if (holds(entry, unit)) return folder;
  throw new Trouble(
    unit >= entry.width
      ? `Layer ${layer} of ${slug} has ${entry.width} units, 0 to ${entry.width - 1}; there is no unit ${unit}.`
      : `This atlas does not describe unit ${unit} of layer ${layer} of ${slug}; the nearest it has is ${neighbour(entry, unit, 0)}${soFar}`,
  );
}

/** Row of one neuron: its pack of 64 is read and kept. @returns {Promise<Record<string, any>>} */
export async function fetchNeuron(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  const pack = await fetchJson(`${folderHolding(slug, layer, unit)}/${number5(unit / site.pack)}.json.gz`);
  const at = pack.columns.unit.indexOf(unit);
  const row = Object.fromEntries(Object.entries(pack.columns).map(([name, values]) => [name, values[at]]));
  return { ...pack.shared, ...row, layer_pictures: pack.shard };
}

export const number5 = (/** @type {number} */ value) => String(Math.floor(value)).padStart(5, "0");

export const fetchModel = async (/** @type {string} */ slug) => fetchJson(findModel(slug).file);

/** Figures of the first neurons of a wide layer, and `of` how many these are; null where all come in one small file. */
export async function fetchFirst(/** @type {string} */ slug, /** @type {number} */ layer) {
  const folder = folderOf(slug, layer);
  return described(findLayer(slug, layer).entry) > site.first ? fetchJson(`${folder}/first.json.gz`) : null;
}

/** Figures of all neurons of a layer, for sorting and filtering. */
export const fetchLayer = async (/** @type {string} */ slug, /** @type {number} */ layer) =>
  fetchJson(`${folderOf(slug, layer)}/layer.json.gz`);

/** Rows of a table that a file holds as columns, values that all rows share apart; of one `unit`, or all. @returns {any[]} */
export function rowsOf(/** @type {{shared: Record<string, any>, columns: Record<string, any[]>}} */ table, /** @type {number|undefined} */ unit = undefined) {
  const places = table.columns.unit.flatMap((one, at) => (unit === undefined || one === unit ? [at] : []));
  return places.map((at) => ({
    ...table.shared, ...Object.fromEntries(Object.entries(table.columns).map(([name, values]) => [name, values[at]])),
  }));
}

export { once, request };
