// Where an activation stands among those of the probe images, and which neurons an image excites most by that. Pure.
import { count, figure } from "./format.js";
import { MAP_SIDE } from "./maps.js";

/**
 * @typedef {{units: number[], shares: number[], values: number[][], images: number}} Curves of a layer: see site_builder/in_browser.py
 * @typedef {{layer: number, unit: number, activation: number, share: number, ratio: number, images: number}} Standing
 *   share: of the probe images below, 1 beyond all; ratio: against the strongest of them
 */

/** Share of the probe images that stay below an activation; 1 where all do, between two knots as if evenly spread. */
export function shareBelow(/** @type {number[]} */ values, /** @type {number[]} */ shares, /** @type {number} */ activation) {
  const last = values.length - 1;
  if (activation > values[last]) return 1;
  if (activation <= values[0]) return 0;
  let low = 0, high = last; // values[low] < activation <= values[high]
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    values[middle] < activation ? (low = middle) : (high = middle);
  }
  return shares[low] + ((shares[high] - shares[low]) * (activation - values[low])) / (values[high] - values[low]);
}

/**
 * The neurons that fire on an image at all, those first that fewest probe images excite more; among equals, which are those
 * beyond all probe images, by how far. A neuron that no probe image fires has no place.
 * @param {Record<string, Curves>} layers @param {Record<string, Float32Array>} peaks by layer, of all units
 * @returns {Standing[]}
 */
export function ranked(layers, peaks) {
  const found = Object.entries(layers).flatMap(([layer, { units, shares, values, images }]) => units.flatMap((unit, at) => {
    const activation = peaks[layer][unit], best = values[at][values[at].length - 1];
    if (!(activation > 0 && best > 0)) return [];
    return [{ layer: Number(layer), unit, activation, share: shareBelow(values[at], shares, activation), ratio: activation / best, images }];
  }));
  return found.sort((a, b) => b.share - a.share || b.ratio - a.ratio || a.layer - b.layer || a.unit - b.unit);
}

/** How many of so many neurons would be beyond all probe images by chance, were the image one more of their kind. */
export const byChance = (/** @type {Record<string, Curves>} */ layers) =>
  Object.values(layers).reduce((sum, { units, images }) => sum + units.length / (images + 1), 0);

/** Where an activation stands, in words. */
export function inWords(/** @type {Standing} */ { share, ratio, images }) {
  const all = count(images);
  if (share === 1) return `above all ${all} probe images, ${figure(ratio)} × the strongest`;
  const digits = images > 10_000 ? 2 : 1, unit = 10 ** digits;
  return `above ${(Math.floor(100 * share * unit) / unit).toFixed(digits)} % of ${all} probe images`;
}

/** A map of activations that has just been computed, in the form in which those of probe images come (site_builder/maps.py). */
export function encodedMap(/** @type {import("./runner.js").Field} */ { rows, columns, values }) {
  const block = Math.ceil(Math.max(rows, columns) / MAP_SIDE);
  const [height, width] = [Math.ceil(rows / block), Math.ceil(columns / block)];
  const cells = new Float32Array(height * width).fill(-Infinity);
  values.forEach((value, at) => {
    const cell = Math.floor(Math.floor(at / columns) / block) * width + Math.floor((at % columns) / block);
    cells[cell] = Math.max(cells[cell], value);
  });
  const low = values.reduce((least, one) => Math.min(least, one), Infinity), high = values.reduce((most, one) => Math.max(most, one), -Infinity);
  const map = Array.from(cells, (value) => Math.round(high > low ? (15 * (value - low)) / (high - low) : 0).toString(16)).join("");
  const best = values.indexOf(high);
  return { rows, columns, row: Math.floor(best / columns), column: best % columns, box: null, low, high, map };
}
