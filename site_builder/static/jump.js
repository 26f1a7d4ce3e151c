// From what somebody typed to where it leads.
import { described, holds, site } from "./data.js";
import { findAmong } from "./labels.js";
import { link, readJump } from "./route.js";

/** The one place the text names, or null when it names none or several. @returns {string|null} */
export function jumpTarget(/** @type {string} */ text, /** @type {import("./route.js").Route} */ here) {
  const found = jumpMatches(text, here);
  return found.length === 1 && found[0].problem === "" ? found[0].href : null;
}

/** Whether the text names a layer or a neuron, or a model in full, and not just part of a name. */
export function isAddress(/** @type {string} */ text, /** @type {import("./route.js").Route} */ here) {
  const wanted = readJump(text, site.models, here);
  return wanted.layer !== undefined || (wanted.heads && wanted.models.length > 0) || wanted.models.some(({ slug, model_id }) => [slug, model_id].includes(text.trim()));
}

/** Any neuron of the atlas, each as likely as any other. */
export function anyNeuron() {
  const layers = site.models.flatMap((model) => model.layers.flatMap((entry, layer) =>
    entry.ranges.map(([start, stop]) => ({ slug: model.slug, layer, start, stop }))));
  let left = Math.floor(Math.random() * layers.reduce((sum, { start, stop }) => sum + stop - start, 0));
  for (const { slug, layer, start, stop } of layers) {
    if (left < stop - start) return link.neuron(slug, layer, start + left);
    left -= stop - start;
  }
  return link.home();
}

/**
 * Places that fit the text, with why one of them cannot be opened.
 * @returns {{title: string, note: string, href: string, problem: string}[]}
 */
export function jumpMatches(/** @type {string} */ text, /** @type {import("./route.js").Route} */ here) {
  const { models, layer, unit, heads } = readJump(text, site.models, here);
  const found = models.map((model) => (heads ? headPlace(/** @type {any} */ (model), layer, unit) : place(/** @type {any} */ (model), layer, unit)));
  return [...found, ...featuresNamed(text).map((name) => ({ title: `feature ${name}`, note: "which heads carry it", href: link.feature(name), problem: "" })), ...clusterNumbered(text)];
}

/** Features whose name the text finds, ranked as labels are. */
const featuresNamed = (/** @type {string} */ text) => findAmong(text,
  (site.features?.list ?? []).map(({ name, heads, ffns }, number) => ({ number, text: name, neurons: heads + ffns, exact: false }))).map((one) => one.text);

/** A Rosetta cluster by its number: “cluster 3”. */
function clusterNumbered(/** @type {string} */ text) {
  const number = Number(/^\s*(?:rosetta\s+)?cluster\s+(\d+)\s*$/i.exec(text)?.[1] ?? NaN);
  const about = site.clusters;
  if (Number.isNaN(number) || about === null) return [];
  const problem = number < about.clusters ? "" : `its clusters are 0 to ${about.clusters - 1}`;
  return [{ title: `Rosetta cluster ${number}`, note: "neurons that fire alike", href: problem === "" ? link.cluster(number) : link.clusters(), problem }];
}

/** @param {import("./data.js").ModelEntry} model @param {number|undefined} layer @param {number|undefined} head */
function headPlace(model, layer, head) {
  const whole = { title: `${model.slug}, attention heads`, note: model.model_id, href: link.heads(model.slug), problem: "" };
  if (model.heads === null) return { ...whole, title: model.slug, href: link.model(model.slug), problem: "this atlas has not decomposed its heads" };
  if (layer === undefined) return whole;
  const { layers } = model.heads;
  if (!layers[layer]) return { ...whole, problem: `its attention layers are 0 to ${layers.length - 1}` };
  if (head === undefined) return whole;
  if (head >= layers[layer]) return { ...whole, problem: `attention layer ${layer} has heads 0 to ${layers[layer] - 1}` };
  return { title: `${model.slug}, attention layer ${layer}, head ${head}`, note: model.model_id, href: link.head(model.slug, layer, head), problem: "" };
}

/** @param {import("./data.js").ModelEntry} model @param {number|undefined} layer @param {number|undefined} unit */
function place(model, layer, unit) {
  const whole = { title: model.slug, note: model.model_id, href: link.model(model.slug), problem: "" };
  if (layer === undefined) return whole;
  const entry = model.layers[layer];
  if (entry === undefined || described(entry) === 0) {
    const last = model.layers.length - 1;
    const problem = entry === undefined ? `its layers are 0 to ${last}` : `layer ${layer} is not in this atlas`;
    return { ...whole, problem };
  }
  const wall = { title: `${model.slug}, layer ${layer}`, note: model.model_id, href: link.layer(model.slug, layer), problem: "" };
  if (unit === undefined) return wall;
  if (!holds(entry, unit)) {
    return { ...wall, problem: `unit ${unit} is not in this atlas; layer ${layer} has ${entry.width} units from 0` };
  }
  return { title: `${model.slug}, layer ${layer}, unit ${unit}`, note: model.model_id, href: link.neuron(model.slug, layer, unit), problem: "" };
}
