// The neurons of a map: its index, the nodes that are read as one looks closer, and who is where.
// The files are described in site_builder/neuron_map/nodes.py.
import { fetchJson, number5, once, request } from "../data.js";

/**
 * @typedef {{neurons: number, absent: number, layers: [string, number][], texts: string[],
 *   nodes: [number, number, number, number, number, number, number][], sheet: {size: number, columns: number},
 *   names: [number, number, number, number][], kept: Record<string, number>, alike: Record<string, number>|null}} Index
 *   nodes: left, top, right, bottom, neurons, parent, sheets of pictures
 * @typedef {{number: number, x: Uint16Array, y: Uint16Array, layer: Uint16Array, unit: Uint16Array, label: Uint16Array, verdict: Uint8Array}} Points of a node
 * @typedef {{folder: string, index: Index, loaded: Map<number, Points>}} Plane
 * @typedef {{left: number, top: number, right: number, bottom: number}} Box in places of the map, 0 to SIDE
 * @typedef {{points: Points, at: number}} Dot a neuron: its node, and its place in it
 */

export const SIDE = 65535;
export const NONE = 65535; // no label
const MOST = 65536; // neurons that are read for what is in view

/** @param {string} folder @returns {Promise<Plane>} */
export const openPlane = async (folder) => ({ folder, index: await fetchJson(`${folder}/index.json.gz`), loaded: new Map() });

const meets = (/** @type {any[]} */ [left, top, right, bottom], /** @type {Box} */ box) =>
  left <= box.right && right >= box.left && top <= box.bottom && bottom >= box.top;

/** Nodes for what is in view, coarse ones first; `whole`: they hold every neuron of the view. */
export function nodesFor(/** @type {Index} */ { nodes }, /** @type {Box} */ box, most = MOST) {
  const inside = nodes.flatMap((node, number) => (meets(node, box) ? [number] : []));
  let sum = 0;
  const chosen = inside.filter((number) => (sum += nodes[number][4]) <= most || nodes[number][5] < 0);
  return { chosen, whole: chosen.length === inside.length };
}

/** About how many neurons of these nodes lie in view that were not read yet: a node's neurons are spread over its box. @param {Plane} plane @param {number[]} chosen @param {Box} box */
export function awaited({ index, loaded }, chosen, box) {
  const share = (/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ from, /** @type {number} */ to) =>
    Math.max(0, Math.min(high, to) - Math.max(low, from) + 1) / (high - low + 1);
  return chosen.filter((number) => !loaded.has(number)).reduce((sum, number) => {
    const [left, top, right, bottom, neurons] = index.nodes[number];
    return sum + neurons * share(left, right, box.left, box.right) * share(top, bottom, box.top, box.bottom);
  }, 0);
}

/** Read a node, once. @param {Plane} plane @param {number} number */
export function readNode(plane, number) {
  const path = `${plane.folder}/${number5(number)}.points.gz`;
  return once(path, async () => {
    const bytes = new Uint8Array(await (await request(path)).arrayBuffer());
    const packed = bytes[0] === 0x1f && bytes[1] === 0x8b; // a server may have unpacked it
    const buffer = packed ? await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer() : bytes.buffer;
    const count = plane.index.nodes[number][4];
    const [x, y, layer, unit, label] = [0, 1, 2, 3, 4].map((column) => new Uint16Array(buffer, 2 * column * count, count));
    return { number, x, y, layer, unit, label, verdict: new Uint8Array(buffer, 10 * count, count) };
  }).then((points) => void plane.loaded.set(number, points));
}

/** Calls `visit` with every neuron that was read and lies in the box. @param {Plane} plane @param {Box} box @param {(points: Points, at: number) => void} visit */
export function eachIn(plane, box, visit) {
  for (const [number, points] of plane.loaded) {
    if (!meets(plane.index.nodes[number], box)) continue;
    const { x, y } = points;
    for (let at = 0; at < x.length; at++) {
      if (x[at] >= box.left && x[at] <= box.right && y[at] >= box.top && y[at] <= box.bottom) visit(points, at);
    }
  }
}

/** The neuron nearest to a place, at most `reach` away. @param {Plane} plane @returns {Dot|null} */
export function nearestTo(plane, /** @type {number} */ px, /** @type {number} */ py, /** @type {number} */ reach) {
  let best = reach * reach, found = /** @type {Dot|null} */ (null);
  eachIn(plane, { left: px - reach, right: px + reach, top: py - reach, bottom: py + reach }, (points, at) => {
    const far = (points.x[at] - px) ** 2 + (points.y[at] - py) ** 2;
    if (far <= best) [best, found] = [far, { points, at }];
  });
  return found;
}

/** Neurons inside a line that is closed from its last corner to its first. @param {Plane} plane @param {[number, number][]} corners @returns {Dot[]} */
export function inside(plane, corners) {
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  /** @type {Dot[]} */
  const found = [];
  eachIn(plane, { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) },
    (points, at) => void (isInside(points.x[at], points.y[at], corners) && found.push({ points, at })));
  return found;
}

/** Whether a ray from the place crosses the line an odd number of times. */
export function isInside(/** @type {number} */ px, /** @type {number} */ py, /** @type {[number, number][]} */ corners) {
  let odd = false;
  corners.forEach(([x, y], at) => {
    const [lastX, lastY] = corners[(at + corners.length - 1) % corners.length];
    if (y > py !== lastY > py && px < ((lastX - x) * (py - y)) / (lastY - y) + x) odd = !odd;
  });
  return odd;
}

/** What is known of a neuron. @param {Plane} plane @param {Dot} dot */
export function toldOf({ index }, { points, at }) {
  const [slug, layer] = index.layers[points.layer[at]];
  const label = points.label[at];
  return { slug, layer, unit: points.unit[at], label: label === NONE ? "" : index.texts[label], verdict: points.verdict[at] };
}

/** Sheet and place of a neuron's small picture; null where the map has none of it. @param {Plane} plane @param {Dot} dot */
export function tileOf({ folder, index }, { points, at }) {
  const { size, columns } = index.sheet;
  const [,,,, count,, sheets] = index.nodes[points.number];
  if (sheets === 0) return null;
  const sheet = Math.floor(at / size), inSheet = Math.min(size, count - sheet * size);
  return { file: `${folder}/${number5(points.number)}-${String(sheet).padStart(3, "0")}.webp`, place: at % size, columns, rows: Math.ceil(inSheet / columns) };
}
