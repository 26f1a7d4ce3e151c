// Labels that mean nearly what a text means, by the neurons that they compete for: ranked as site_builder/near_texts.py ranks.
import { fetchJson, site } from "./data.js";
import { wordsOf } from "./labels.js";

const LIMIT = 8;

/** Labels that a text leads to by meaning, the most alike first. @param {string} text @returns {Promise<[string, number][]>} */
export async function nearLabels(text) {
  const words = wordsOf(text);
  if (words.length === 0 || !site.search?.near) return [];
  return ranked(await fetchJson(site.search.near), words);
}

/** @param {{labels: string[], near: Record<string, [number, number][]>}} file @param {string[]} words @returns {[string, number][]} */
export function ranked({ labels, near }, words) {
  const holds = (/** @type {string} */ text) => {
    const own = wordsOf(text);
    return words.every((word) => own.some((one) => one.startsWith(word)));
  };
  /** @type {Map<string, number>} */
  const best = new Map();
  for (const [text, own] of Object.entries(near)) {
    if (!holds(text)) continue;
    for (const [at, likeness] of own) if (!holds(labels[at])) best.set(labels[at], Math.max(likeness, best.get(labels[at]) ?? 0));
  }
  return [...best].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, LIMIT);
}
