// The neurons that a probe image excites most: who reads them, and from where.
import { fetchJson, number5, rowsOf, site, Trouble } from "./data.js";

/**
 * The neurons that a probe image excites most: those of whose strongest images it is one, by how many images are stronger.
 * @returns {Promise<{all: number, neurons: {slug: string, layer: number, unit: number, rank: number, label: string|null}[]}>} all: how many there are
 */
export async function fetchExcited(/** @type {string} */ probe, /** @type {number} */ image) {
  const about = site.excited[probe];
  if (about === undefined) throw new Trouble(`This atlas does not know which neurons the images of the probe set “${probe}” excite.`);
  if (image >= about.images) throw new Trouble(`The probe set ${probe} has ${about.images} images, 0 to ${about.images - 1}.`);
  const number = Math.floor(image / about.pack);
  const pack = await fetchJson(`${about.folder}/${String(Math.floor(number / 1000)).padStart(2, "0")}/${number5(number)}.json.gz`);
  const neurons = rowsOf(pack, image).map(({ model, layer, neuron, rank, label }) => ({ slug: site.models[model].slug, layer, unit: neuron, rank, label }));
  return { all: pack.counts[image % about.pack], neurons };
}
