// A map on a canvas: dots, names of regions, small pictures once there is room for them. Nothing moves by itself.
import { awaited, eachIn, SIDE, tileOf } from "./points.js";

/**
 * @typedef {{x: number, y: number, zoom: number}} View the middle of what is seen, in shares of the map, and how much it is enlarged
 * @typedef {{plane: import("./points.js").Plane, view: View, width: number, height: number, chosen: number[], kinds: import("./colours.js").Kind[],
 *   kindOf: (points: any, at: number) => number, shown: (points: any, at: number) => boolean, marked: import("./points.js").Dot|null,
 *   cross: boolean, line: [number, number][], ink: string, paper: string, fetched: (file: string) => HTMLImageElement|null}} Scene
 *   chosen: nodes that belong in this view, read or on their way; line: corners of what is being drawn around, in places of the map
 */

const ROOM = 30; // CSS pixels between neurons, about, from which on their pictures are shown
const APART = 240; // pixels between two regions of one name
const BUTTONS = [60, 160]; // pixels of the upper right corner, where the buttons are
export const EDGE = 12; // pixels around the whole map

/** Pixels of a place of the map. */
export const scaleOf = (/** @type {{zoom: number}} */ { zoom }, /** @type {number} */ width, /** @type {number} */ height) =>
  (zoom * (Math.min(width, height) - 2 * EDGE)) / SIDE;

/** From places of the map to pixels and back. @param {View} view @param {number} width @param {number} height */
export function projection(view, width, height) {
  const scale = scaleOf(view, width, height);
  const [left, top] = [width / 2 - view.x * SIDE * scale, height / 2 - view.y * SIDE * scale];
  return {
    scale,
    to: (/** @type {number} */ x, /** @type {number} */ y) => /** @type {[number, number]} */ ([left + x * scale, top + y * scale]),
    from: (/** @type {number} */ px, /** @type {number} */ py) => /** @type {[number, number]} */ ([(px - left) / scale, (py - top) / scale]),
  };
}

/** What of the map is in view. @param {View} view @param {number} width @param {number} height @returns {import("./points.js").Box} */
export function boxOf(view, width, height, spare = 0) {
  const { from } = projection(view, width, height);
  const [[left, top], [right, bottom]] = [from(-spare, -spare), from(width + spare, height + spare)];
  return { left, top, right, bottom };
}

/** @param {CanvasRenderingContext2D} context in CSS pixels @param {Scene} scene */
export function draw(context, scene) {
  const { width, height, view, plane, kinds, kindOf, shown } = scene;
  const { to, scale } = projection(view, width, height);
  context.globalAlpha = 1;
  context.fillStyle = scene.paper;
  context.fillRect(0, 0, width, height);
  /** @type {[number, number, any, number][][]} */
  const byKind = kinds.map(() => []);
  const box = boxOf(view, width, height, ROOM);
  let count = 0, read = 0;
  eachIn(plane, box, (points, at) => {
    read++;
    if (shown(points, at)) count++;
    byKind[kindOf(points, at)].push([...to(points.x[at], points.y[at]), points, at]);
  });
  const seen = Math.min(1, (SIDE * scale) / width) * Math.min(1, (SIDE * scale) / height) * width * height;
  const coming = awaited(plane, scene.chosen, box) * (read > 0 ? count / read : 1); // else the first to come have room for a moment
  const room = Math.sqrt(seen / Math.max(count + coming, 1));
  const pictures = room > ROOM, side = Math.min(72, Math.max(24, 0.8 * room)), size = Math.min(8, Math.max(2, 0.28 * room));
  const taken = new Set();
  byKind.forEach((dots, kind) => {
    context.fillStyle = kinds[kind].colour;
    for (const [px, py, points, at] of dots) {
      const there = shown(points, at);
      context.globalAlpha = there ? 1 : 0.12;
      if (there && pictures && drawPicture(context, scene, { points, at }, px, py, side, taken, kinds[kind].colour)) continue;
      const own = there && pictures ? Math.max(size, 6) : size;
      context.fillRect(px - own / 2, py - own / 2, own, own);
    }
  });
  context.globalAlpha = 1;
  drawNames(context, scene, to, pictures);
  drawMarks(context, scene, to, pictures ? side : 14);
}

/** A neuron's picture in a frame of its colour; false where another is in its place, or none is there. */
function drawPicture(context, { plane, fetched }, dot, px, py, side, taken, colour) {
  const [column, row] = [Math.floor(px / (0.8 * side)), Math.floor(py / (0.8 * side))];
  const tile = taken.has(`${column} ${row}`) ? null : tileOf(plane, dot);
  if (tile === null) return false;
  taken.add(`${column} ${row}`);
  const image = fetched(tile.file);
  const [left, top] = [px - side / 2, py - side / 2];
  context.fillRect(left - 2, top - 2, side + 4, side + 4);
  if (image) {
    const own = image.naturalWidth / tile.columns;
    context.drawImage(image, (tile.place % tile.columns) * own, Math.floor(tile.place / tile.columns) * own, own, own, left, top, side, side);
  }
  context.fillStyle = colour;
  return true;
}

/** Labels that name a region, those of most neurons first, as far as they do not cover each other. */
function drawNames(context, { plane, width, height, ink, paper }, to, pictures) {
  if (pictures) return; // there labels stand below the map, one at a time
  context.font = `600 13px ${getComputedStyle(context.canvas).fontFamily}`;
  [context.textAlign, context.textBaseline, context.lineJoin, context.lineWidth] = ["center", "middle", "round", 4];
  [context.strokeStyle, context.fillStyle] = [paper, ink];
  /** @type {number[][]} */
  const placed = [];
  const again = (text, px, py) => placed.some((one) => one[4] === text && Math.hypot((one[0] + one[2]) / 2 - px, one[1] + 11 - py) < APART);
  for (const [x, y, text] of plane.index.names) {
    const [px, py] = to(x, y), name = plane.index.texts[text], half = context.measureText(name).width / 2 + 6;
    const box = [px - half, py - 11, px + half, py + 11];
    const underButtons = box[2] > width - BUTTONS[0] && box[1] < BUTTONS[1];
    if (underButtons || box[0] < 0 || box[1] < 0 || box[2] > width || box[3] > height || again(text, px, py) || placed.some((one) => one[0] < box[2] && one[2] > box[0] && one[1] < box[3] && one[3] > box[1])) continue;
    placed.push([...box, text]);
    context.strokeText(name, px, py);
    context.fillText(name, px, py);
  }
}

/** The neuron that is pointed at, the cross of the keyboard, the line that is being drawn. */
function drawMarks(context, { plane, marked, cross, line, width, height, ink, paper }, to, side) {
  for (const [colour, thick] of [[paper, 5], [ink, 2]]) {
    [context.strokeStyle, context.lineWidth] = [colour, thick];
    if (marked) {
      const [px, py] = to(marked.points.x[marked.at], marked.points.y[marked.at]);
      context.strokeRect(px - side / 2 - 3, py - side / 2 - 3, side + 6, side + 6);
    }
    context.beginPath();
    if (cross) {
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(width / 2 + 4 * dx, height / 2 + 4 * dy);
        context.lineTo(width / 2 + 12 * dx, height / 2 + 12 * dy);
      }
    }
    line.forEach(([x, y], at) => (at === 0 ? context.moveTo(...to(x, y)) : context.lineTo(...to(x, y))));
    if (line.length > 2) context.closePath();
    context.stroke();
  }
}
