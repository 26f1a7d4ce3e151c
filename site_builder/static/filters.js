// Sorting and filtering of a layer's neurons: what may be asked, how it stands in the address, which neurons fit.
import { wordsOf } from "./labels.js";
import { against, VERDICTS } from "./trust.js";

/** What a sort needs in the layer's table, and which way it runs. Absent figures come last, ties by unit. */
const SORTS = {
  robust: { label: "what holds best", column: "thumb", ascending: true },
  activation: { label: "activation", column: "activation" },
  percentile: { label: "against real images", column: "percentile", then: "ratio_to_best" },
  sparsity: { label: "rarely firing first", column: "fires_on", ascending: true },
  certainty: { label: "certainty of the label", column: "label_z" },
  unit: { label: "unit", column: "unit", ascending: true },
};

/** Name of a filter -> its values with their labels; the first value of each lets all pass. */
const FILTERS = {
  show: [["all", "all"], ["active", "active"], ["inactive", "inactive"]],
  label: [["any", "any"], ["labelled", "labelled"], ["unlabelled", "unlabelled"]],
  fires: [["any", "any share"], ["0.01", "up to 1 %"], ["0.05", "up to 5 %"], ["0.2", "up to 20 %"]],
  verdict: [["any", "any"], ["holds", "holds"], ["partly", "holds in part"], ["does not", "does not hold"]],
  picture: [["any", "any"], ["beats", "beats every real image"], ["below", "does not"]],
};
const NEEDS = { label: "label", verdict: "verdict", fires: "fires_on", picture: "percentile" };

/** @typedef {{sort: string, show: string, label: string, fires: string, verdict: string, picture: string, text: string}} Asked */

/** What the address asks; what it does not know is as if it were not said. @returns {Asked} */
export function readAsked(/** @type {URLSearchParams} */ query) {
  const chosen = (/** @type {string} */ name, /** @type {string[]} */ known) => known.find((key) => key === query.get(name)) ?? known[0];
  const filters = Object.entries(FILTERS).map(([name, values]) => [name, chosen(name, values.map(([key]) => key))]);
  return /** @type {Asked} */ ({ sort: chosen("sort", Object.keys(SORTS)), text: query.get("text") ?? "", ...Object.fromEntries(filters) });
}

/** The query string of what differs from asking nothing. */
export function writeAsked(/** @type {Asked} */ asked) {
  const nothing = readAsked(new URLSearchParams());
  return new URLSearchParams(Object.entries(asked).filter(([name, value]) => value !== nothing[name])).toString();
}

/** Sorts and filters that a table has the figures for. @returns {{sorts: [string, string][], filters: [string, [string, string][]][]}} */
export function possible(/** @type {any} */ table) {
  const sorts = Object.entries(SORTS).filter(([, { column }]) => column in table).map(([key, { label }]) => /** @type {[string, string]} */ ([key, label]));
  const filters = Object.entries(FILTERS).filter(([name]) => !(name in NEEDS) || NEEDS[name] in table);
  return { sorts, filters: /** @type {any} */ (filters) };
}

/** Positions in the table that fit, in the order asked. */
export function ordered(/** @type {any} */ table, /** @type {Asked} */ asked) {
  const kept = table.unit.map((_, at) => at).filter(fits(table, asked));
  const { column, then, ascending } = /** @type {any} */ (SORTS[asked.sort].column in table ? SORTS[asked.sort] : SORTS.robust);
  const sign = ascending ? 1 : -1;
  const compare = (name, a, b) => {
    const [left, right] = [table[name]?.[a] ?? null, table[name]?.[b] ?? null];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    return sign * (left - right);
  };
  return kept.sort((a, b) => compare(column, a, b) || (then ? compare(then, a, b) : 0) || a - b);
}

function fits(table, asked) {
  const inactive = new Set(table.inactive);
  const words = wordsOf(asked.text);
  const texts = (table.texts ?? []).map((text) => words.every((word) => wordsOf(text).some((own) => own.startsWith(word))));
  const tests = [
    asked.show !== "all" && ((at) => inactive.has(at) === (asked.show === "inactive")),
    asked.label !== "any" && table.label && ((at) => (table.label[at] >= 0) === (asked.label === "labelled")),
    asked.fires !== "any" && table.fires_on && ((at) => table.fires_on[at] !== null && table.fires_on[at] <= Number(asked.fires)),
    asked.verdict !== "any" && table.verdict && ((at) => VERDICTS[table.verdict[at]] === asked.verdict),
    asked.picture !== "any" && table.percentile && ((at) => beats(table, at) === (asked.picture === "beats")),
    words.length > 0 && table.label && ((at) => table.label[at] >= 0 && texts[table.label[at]]),
  ].filter(Boolean);
  return (/** @type {number} */ at) => tests.every((test) => test(at));
}

/** Whether the picture activates the neuron more than every real image, by both measures; a picture that does not hold never does. */
export function beats(/** @type {any} */ table, /** @type {number} */ at) {
  const of = (/** @type {string} */ name) => table[name]?.[at] ?? null;
  const verdict = table.verdict ? VERDICTS[table.verdict[at]] : undefined;
  return against({ percentile: of("percentile"), ratio_to_best: of("ratio_to_best"), peak_ratio: of("peak_ratio"), verdict }) === "both";
}
