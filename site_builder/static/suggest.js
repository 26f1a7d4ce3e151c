// What the search box offers while somebody types: places, labels with the picture of their surest neuron, texts of heads.
import { number5, site } from "./data.js";
import { plural } from "./format.js";
import { jumpMatches } from "./jump.js";
import { findLabels, nearestWords } from "./labels.js";
import { nearLabels } from "./near_labels.js";
import { tileStyle } from "./pictures.js";
import { link } from "./route.js";

const [PLACES, LABELS, TEXTS, CLUSTERS] = [3, 5, 3, 2];
const FACES = { columns: 8 }; // as sections/labels.py lays them

/** @typedef {{title: string, note: string, href: string, face?: Record<string, string>}} Suggestion */

/** @param {string} text @param {import("./route.js").Route} here @returns {Promise<Suggestion[]>} */
export async function suggest(text, here) {
  const places = jumpMatches(text, here).filter(({ problem }) => problem === "").slice(0, PLACES);
  const [labels, texts, clusters] = await Promise.all([site.search, site.head_search, site.cluster_search].map((index) => findLabels(text, index)));
  const found = [
    ...places.map(({ title, note, href }) => ({ title, note, href })),
    ...labels.slice(0, LABELS).map((one) => ({ title: one.text, note: plural(one.neurons, "neuron"), href: link.search({ q: one.text }), face: faceOf(one.number) })),
    ...texts.slice(0, TEXTS).map((one) => ({ title: one.text, note: plural(one.neurons, "head"), href: link.search({ q: one.text }) })),
    ...clusters.slice(0, CLUSTERS).map((one) => ({ title: one.text, note: plural(one.neurons, "Rosetta cluster"), href: link.search({ q: one.text }) })),
  ];
  if (found.length > 0) return found;
  const meant = await nearLabels(text).catch(() => []);
  if (meant.length > 0) return meant.slice(0, LABELS).map(([label]) => ({ title: label, note: "near in meaning", href: link.search({ q: label }) }));
  const near = await nearestWords(text);
  return near === "" ? [] : [{ title: near, note: "did you mean this?", href: link.search({ q: near }) }];
}

/** The small picture of a label. */
function faceOf(/** @type {number} */ number) {
  const { faces, pack, texts } = /** @type {any} */ (site.search);
  const sheet = Math.floor(number / pack);
  const inSheet = Math.min(pack, texts - sheet * pack);
  return tileStyle(`${faces}/${number5(sheet)}.webp`, number % pack, FACES.columns, Math.ceil(inSheet / FACES.columns));
}
