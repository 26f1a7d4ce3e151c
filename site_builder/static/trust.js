// What may be said of a picture, from its numbers: whether it holds, and how it compares with real images.

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
