// By what heads may be compared: figures of the table heads, and scores for features.
import { site } from "./data.js";
import { figure, fine, hundredth, points, spread } from "./format.js";
import { has } from "./heads.js";

/**
 * @typedef {{key: string, name: string, table: "heads"|"head_features", column: string, signed: boolean, root: boolean,
 *   value: (row: import("./heads.js").HeadRow, at: number) => number|null,
 *   plain: (value: number|null) => string, words: (value: number|null, row: import("./heads.js").HeadRow) => string}} Measure
 *   root: a few heads have most of it, so colours follow the square root; plain: a value as text; words: the same with its error, where the row has one
 */

/** Column -> how it is called and written. Absent figures are not offered. */
const FIGURES = {
  variance_share: { name: "share of variance", root: true, plain: fine },
  norm_share: { name: "length", root: true, plain: fine },
  ablation_effect: { name: "ablation: accuracy lost", root: true, plain: points, words: (value, row) => (value === null ? "–" : points(value).replace(" ", ` ± ${spread(100 * row.ablation_se)} `)) },
  ablation_change: { name: "ablation: change of the representation", root: true, plain: figure },
  dimensions: { name: "dimensions", plain: figure },
  texts_explain: { name: "explained by its texts", plain: fine },
};

/** Small heads are explained whole by as many texts as they have dimensions: then there is nothing to compare. */
const differ = (/** @type {number[]} */ shares) => Math.max(...shares) - Math.min(...shares) > 0.01;

/** Measures that a model's heads have a figure for, and scores of its features. @returns {Measure[]} */
export function measuresOf(/** @type {{rows: any[], scores: Record<string, (number|null)[]>}} */ { rows, scores }) {
  const figures = Object.entries(FIGURES).map(([column, { name, root, plain, words }]) => ({
    key: column, name, table: "heads", column, root: root ?? false, plain, words: words ?? plain, value: (row) => row[column] ?? null, signed: rows.some((row) => row[column] < 0),
  }));
  const features = Object.entries(scores).map(([feature, values]) => ({
    key: `feature:${feature}`, name: `feature: ${feature}`, table: "head_features", column: "score", root: false, plain: hundredth, words: hundredth,
    value: (_, at) => values[at], signed: values.some((value) => has(value) && Number(value) < 0),
  }));
  const told = ({ key, value }) => rows.some((row, at) => has(value(row, at))) && (key !== "texts_explain" || differ(rows.map((row) => row.texts_explain)));
  return /** @type {any} */ ([...figures, ...features].filter(told));
}

/** The measure that the address asks for, else the first that all heads have. */
export const measureAsked = (/** @type {Measure[]} */ measures, /** @type {string|null} */ key, /** @type {any[]} */ rows) =>
  measures.find((one) => one.key === key) ?? measures.find((one) => rows.every((row, at) => has(one.value(row, at)))) ?? measures[0];

/** The largest size of a measure's values: the end of its colours. */
export const fullOf = (/** @type {Measure} */ measure, /** @type {any[]} */ rows) =>
  Math.max(...rows.map((row, at) => Math.abs(measure.value(row, at) ?? 0)), 1e-12);

/** How deep a colour is, from 0 to 1, for a share of the measure's end. */
export const depthOf = (/** @type {Measure} */ { root }, /** @type {number} */ share) => (root ? Math.sqrt(Math.min(1, share)) : Math.min(1, share));

/** One sentence: what a measure is. */
export const meaningOf = (/** @type {Measure} */ { table, column }) => site.columns[table][column]?.means ?? "";

/** Place of a head among all by a measure, the highest first, from 1; null where it has no figure. */
export function rankOf(/** @type {Measure} */ measure, /** @type {any[]} */ rows, /** @type {any} */ row) {
  const at = rows.indexOf(row);
  const own = measure.value(row, at);
  return own === null ? null : 1 + rows.filter((one, place) => (measure.value(one, place) ?? -Infinity) > own).length;
}
