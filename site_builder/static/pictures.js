// The large picture of a neuron: the dataset's own WebP bytes, in whichever way this site was built to find them.
import { fetchNeuron, findLayer, folderHolding, folderOf, number5, once, request, site, Trouble } from "./data.js";

/** Object URL of a neuron's picture, byte for byte as the dataset has it. @returns {Promise<string>} */
export function pictureUrl(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  return once(`picture ${slug}/${layer}/${unit}`, async () => {
    const bytes = await READERS[site.images.mode](slug, layer, unit);
    const magic = new TextDecoder("latin1").decode(bytes.subarray(0, 12));
    if (!/^RIFF....WEBP$/s.test(magic)) {
      throw new Trouble("The bytes found for this picture are not a WebP file: the dataset has changed since this site was built.");
    }
    return URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
  });
}

const READERS = { sprite: fromBundle, files: fromFile, range: fromShard };

/** One GET for a few neighbours: lengths as uint32 little-endian, then the WebP files one after the other. */
async function fromBundle(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  const folder = folderHolding(slug, layer, unit), { bundle } = findLayer(slug, layer).entry;
  const path = `${folder}/${number5(unit / bundle)}.pictures`;
  const buffer = await once(path, async () => (await request(path)).arrayBuffer());
  const lengths = new DataView(buffer, 0, bundle * 4);
  let start = bundle * 4;
  for (let slot = 0; slot < unit % bundle; slot++) start += lengths.getUint32(slot * 4, true);
  return new Uint8Array(buffer, start, lengths.getUint32((unit % bundle) * 4, true));
}

async function fromFile(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  const path = `${folderHolding(slug, layer, unit)}/${number5(unit / site.pack)}/${unit}.webp`;
  return new Uint8Array(await (await request(path)).arrayBuffer());
}

/** One Range request into the layer's Parquet shard, where each WebP lies verbatim. */
async function fromShard(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  const row = await fetchNeuron(slug, layer, unit);
  const url = `${site.images.base}/${row.layer_pictures}`;
  const response = await request(url, { headers: { Range: `bytes=${row.offset}-${row.offset + row.length - 1}` } });
  if (response.status !== 206) {
    await response.body?.cancel();
    throw new Trouble(`${url}: this host does not serve parts of files. Build the site with --images sprite.`);
  }
  return new Uint8Array(await response.arrayBuffer());
}

/** When the first sheet of a layer's thumbnails has come, or could not. @returns {Promise<void>} */
export async function thumbsSeen(/** @type {string} */ slug, /** @type {number} */ layer) {
  const sheet = Object.assign(new Image(), { src: `${folderOf(slug, layer)}/00000.webp` });
  await sheet.decode().catch(() => {});
}

/**
 * Style that shows one tile of a sprite of `columns` x `rows` tiles, at any size of its box.
 * @param {string} file @param {number} index @param {number} columns @param {number} rows
 */
export function tileStyle(file, index, columns, rows) {
  const share = (/** @type {number} */ at, /** @type {number} */ count) => (count > 1 ? (100 * at) / (count - 1) : 0);
  return {
    backgroundImage: `url("${new URL(file, document.baseURI).href}")`,
    backgroundSize: `${columns * 100}% ${rows * 100}%`,
    backgroundPosition: `${share(index % columns, columns)}% ${share(Math.floor(index / columns), rows)}%`,
  };
}
