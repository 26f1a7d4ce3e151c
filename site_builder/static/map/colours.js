// What a neuron's colour stands for on a map: its depth, its model or the verdict on its picture; and the legend of it.
import { VERDICTS } from "../trust.js";

/** @typedef {{key: number, name: string, colour: string}} Kind */

// On a light and on a dark ground, in the same order; depth runs along the first list.
const DEPTH = [["#2f4bb5", "#197f94", "#5d7f14", "#b76a0c", "#b52a3a"], ["#8fa8ff", "#46c3d6", "#b6d14e", "#f3a84a", "#ff7d86"]];
const MODELS = [["#1d5fb8", "#b5481c", "#1b7a43", "#8a3ba8", "#8b6b00", "#b0246f", "#0f7c86", "#5b5f66"], ["#83b4f5", "#ff9d6b", "#62d08f", "#d49af0", "#e6c04a", "#ff8ec6", "#5fd3de", "#b9bdc4"]];
const VERDICT = [["#1b7a43", "#a06a00", "#b5242e", "#7d6f9c", "#6d7076"], ["#62d08f", "#f0b645", "#ff7d86", "#b3a4dc", "#9a9da3"]];
const VERDICT_NAMES = { holds: "picture holds", partly: "holds in part", "does not": "does not hold", inactive: "picture does not fire it" };

export const CHOICES = { layer: "Depth", model: "Model", verdict: "Verdict" };

const mixed = (/** @type {string} */ one, /** @type {string} */ other, /** @type {number} */ share) => {
  const part = (/** @type {string} */ text, /** @type {number} */ at) => parseInt(text.slice(at, at + 2), 16);
  return `#${[1, 3, 5].map((at) => Math.round(part(one, at) * (1 - share) + part(other, at) * share).toString(16).padStart(2, "0")).join("")}`;
};

/** The colour at a share of the way along a list. */
function along(/** @type {string[]} */ list, /** @type {number} */ share) {
  const place = share * (list.length - 1), first = Math.min(list.length - 2, Math.floor(place));
  return mixed(list[first], list[first + 1], place - first);
}

/**
 * The kinds by which neurons are coloured, and which one a neuron is of.
 * @param {import("./points.js").Index} index @param {string} by @param {boolean} dark
 * @returns {{kinds: Kind[], kindOf: (points: import("./points.js").Points, at: number) => number}}
 */
export function colouring({ layers }, by, dark) {
  const tone = Number(dark);
  if (by === "verdict") {
    const names = [...VERDICTS.map((name) => VERDICT_NAMES[name]), "no verdict"];
    return { kinds: names.map((name, key) => ({ key, name, colour: VERDICT[tone][key] })), kindOf: ({ verdict }, at) => Math.min(verdict[at], VERDICTS.length) };
  }
  const slugs = [...new Set(layers.map(([slug]) => slug))];
  if (by === "model") {
    const numbers = layers.map(([slug]) => slugs.indexOf(slug));
    return { kinds: slugs.map((name, key) => ({ key, name, colour: MODELS[tone][key % MODELS[tone].length] })), kindOf: ({ layer }, at) => numbers[layer[at]] };
  }
  const deepest = new Map(slugs.map((slug) => [slug, Math.max(1, ...layers.filter(([own]) => own === slug).map(([, layer]) => layer))]));
  if (slugs.length === 1) {
    const kinds = layers.map(([slug, layer], key) => ({ key, name: `layer ${layer}`, colour: along(DEPTH[tone], layer / /** @type {number} */ (deepest.get(slug))) }));
    return { kinds, kindOf: ({ layer }, at) => layer[at] };
  }
  const steps = ["first fifth", "second", "third", "fourth", "last fifth"];
  const step = layers.map(([slug, layer]) => Math.round((layer / /** @type {number} */ (deepest.get(slug))) * (steps.length - 1)));
  return { kinds: steps.map((name, key) => ({ key, name, colour: DEPTH[tone][key] })), kindOf: ({ layer }, at) => step[layer[at]] };
}
