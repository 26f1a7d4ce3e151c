// What may be said of a neuron, from its numbers: what it fires on, whether its picture holds, and how that compares with
// real images.
import { percent } from "./format.js";

/** @typedef {Record<string, any>} Row a row of the neurons table */
/** @typedef {"both"|"mean"|"peak"|"neither"} Against which measures of the picture are above every real image */

export const VERDICTS = ["holds", "partly", "does not", "inactive"];
const SENTENCES = {
  holds: "The picture holds.", partly: "The picture holds in part.", "does not": "The picture does not hold.",
  inactive: "The picture does not make the neuron fire.",
};

/** One sentence that says whether to trust the picture; "" where nobody has judged it. */
export const sentence = (/** @type {Row} */ row) => SENTENCES[row.verdict] ?? "";

/**
 * By which measure the picture is above every real image, the same measure on both sides; null where nobody compared,
 * or where the picture does not hold: then what it reaches on the optimized pixels stands for nothing.
 * @returns {Against|null}
 */
export function against(/** @type {Row} */ row) {
  if ((row.percentile ?? null) === null || row.verdict === "does not" || row.verdict === "inactive" || row.status === "inactive") return null;
  const mean = (row.ratio_to_best ?? null) === null ? row.percentile >= 100 : row.ratio_to_best > 1;
  const peak = (row.peak_ratio ?? null) === null ? mean : row.peak_ratio > 1;
  return mean && peak ? "both" : mean ? "mean" : peak ? "peak" : "neither";
}

const has = (/** @type {any} */ value) => value !== null && value !== undefined;

/** A word for how well a label tells firing from silent images that were not used to choose it. */
export const certainty = (/** @type {number|null|undefined} */ auroc) =>
  !has(auroc) ? "unchecked" : Number(auroc) >= 0.9 ? "certain" : Number(auroc) >= 0.75 ? "likely" : "weak";

const FIRES = { certain: "Fires on", likely: "Probably fires on", weak: "Perhaps fires on", unchecked: "Fires, as nobody has checked, on" };
const PICTURES = {
  holds: "the picture holds", partly: "the picture holds in part", "does not": "the picture does not hold",
  inactive: "the picture does not make it fire",
};

/** What fires the neuron, as far as it is known. @param {Row} row @param {boolean} tried */
function firing(row, tried) {
  if (row.label_status === "labelled") return `${FIRES[certainty(row.label_auroc)]} ${row.label}`;
  if (!has(row.probe_images)) return tried ? "Tried on real images, its figures are still to come" : "Nobody has measured it on real images yet";
  if (!has(row.fires_on)) return "No real image of the probe set fires it";
  return row.label_status === "unlabelled" ? "Fires on something that no text of the list says" : `Fires on ${percent(row.fires_on)} of real images; nobody has looked for words yet`;
}

/**
 * The verdict on a neuron in one plain sentence: what it fires on, and whether its picture may be believed.
 * @param {Row} row @param {boolean} [tried] whether the atlas has exciting images of its layer: while it grows, these may come before figures
 */
export function telling(row, tried = false) {
  const picture = row.status === "failed" ? "its picture could not be made" : !has(row.status) ? "it has no picture yet"
    : row.status === "inactive" ? "no start made it fire" : (PICTURES[row.verdict] ?? "nobody has judged its picture yet");
  return `${firing(row, tried)}; ${picture}.`;
}
