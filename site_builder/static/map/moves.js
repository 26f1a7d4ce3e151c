// Moving about a map: pointers, wheel and keys change the view, draw a line around neurons, point at one or open it.
import { useEffect, useRef } from "../vendor/htm-preact.js";
import { projection } from "./draw.js";

/** @typedef {import("./draw.js").View} View */

export const WHOLE = /** @type {View} */ ({ x: 0.5, y: 0.5, zoom: 1 });
export const DEEPEST = 300;
const STEP = 1.6; // of a key or a button
const STILL = 5; // pixels that a click may move

const within = (/** @type {number} */ low, /** @type {number} */ value, /** @type {number} */ high) => Math.min(high, Math.max(low, value));

/** The view inside its limits. @param {View} view @returns {View} */
export const limited = ({ x, y, zoom }) => ({ x: within(0, x, 1), y: within(0, y, 1), zoom: within(1, zoom, DEEPEST) });

/** The view moved by pixels. @param {View} view */
export function moved(view, dx, dy, width, height) {
  const { scale } = projection(view, width, height);
  return limited({ ...view, x: view.x - dx / scale / 65535, y: view.y - dy / scale / 65535 });
}

/** The view enlarged, with the place at (px, py) where it was. @param {View} view */
export function enlarged(view, factor, px, py, width, height) {
  const zoom = limited({ ...view, zoom: view.zoom * factor }).zoom;
  const [x, y] = projection(view, width, height).from(px, py);
  const [nextX, nextY] = projection({ ...view, zoom }, width, height).from(px, py);
  return limited({ x: view.x + (x - nextX) / 65535, y: view.y + (y - nextY) / 65535, zoom });
}

/** The view that a key leads to; null where the key is not one of the map. @param {View} view @param {string} key */
export function keyed(view, key, width, height) {
  const far = 0.2 * Math.min(width, height);
  const ways = { ArrowLeft: [far, 0], ArrowRight: [-far, 0], ArrowUp: [0, far], ArrowDown: [0, -far] };
  if (key in ways) return moved(view, ways[key][0], ways[key][1], width, height);
  if (key === "+" || key === "=") return enlarged(view, STEP, width / 2, height / 2, width, height);
  if (key === "-") return enlarged(view, 1 / STEP, width / 2, height / 2, width, height);
  return key === "0" ? WHOLE : null;
}

/**
 * @param {{current: HTMLCanvasElement|null}} canvas
 * @param {{view: () => View, change: (view: View) => void, around: boolean, point: (px: number, py: number) => void,
 *   open: (px: number, py: number, touched: boolean) => void, leave: () => void, line: (corners: [number, number][], done: boolean) => void}} on
 *   around: whether a drag draws a line, not moves the map; line: corners in places of the map
 */
export function useMoves(canvas, on) {
  const last = useRef(on);
  last.current = on;
  useEffect(() => {
    const target = canvas.current;
    if (!target) return undefined;
    /** @type {Map<number, [number, number]>} */
    const held = new Map();
    /** @type {[number, number][]|null} */
    let corners = null;
    let far = 0;
    const at = (event) => {
      const { left, top } = target.getBoundingClientRect();
      return /** @type {[number, number]} */ ([event.clientX - left, event.clientY - top]);
    };
    const size = () => /** @type {[number, number]} */ ([target.clientWidth, target.clientHeight]);
    const place = (px, py) => projection(last.current.view(), ...size()).from(px, py);
    const down = (event) => {
      if (event.button !== 0) return;
      target.setPointerCapture(event.pointerId);
      held.set(event.pointerId, at(event));
      far = held.size > 1 ? Infinity : 0;
      corners = held.size === 1 && (last.current.around || event.shiftKey) ? [place(...at(event))] : null;
    };
    const move = (event) => {
      const now = at(event), before = held.get(event.pointerId);
      if (before === undefined) return void (event.pointerType !== "touch" && last.current.point(...now));
      far += Math.hypot(now[0] - before[0], now[1] - before[1]);
      if (corners) {
        corners.push(place(...now));
        held.set(event.pointerId, now);
        return last.current.line([...corners], false);
      }
      const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
      held.set(event.pointerId, now);
      if (other === undefined) return far > STILL && last.current.change(moved(last.current.view(), now[0] - before[0], now[1] - before[1], ...size()));
      const middle = (one) => [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2], apart = (one) => Math.max(8, Math.hypot(one[0] - other[0], one[1] - other[1]));
      const [[px, py], [oldX, oldY]] = [middle(now), middle(before)];
      last.current.change(enlarged(moved(last.current.view(), px - oldX, py - oldY, ...size()), apart(now) / apart(before), px, py, ...size()));
    };
    const up = (event) => {
      const there = held.delete(event.pointerId);
      if (corners) {
        if (corners.length > 2) last.current.line(corners, true);
        else last.current.line([], false);
        corners = null;
      } else if (there && far <= STILL && event.type === "pointerup") last.current.open(...at(event), event.pointerType === "touch");
    };
    const wheel = (event) => {
      event.preventDefault();
      const lines = event.deltaMode === 0 ? 1 : 30;
      last.current.change(enlarged(last.current.view(), Math.exp(-within(-300, event.deltaY * lines, 300) * (event.ctrlKey ? 0.01 : 0.002)), ...at(event), ...size()));
    };
    const leave = () => last.current.leave();
    const listeners = { pointerdown: down, pointermove: move, pointerup: up, pointercancel: up, wheel, pointerleave: leave };
    for (const [name, listener] of Object.entries(listeners)) target.addEventListener(name, /** @type {any} */ (listener), { passive: false });
    return () => Object.entries(listeners).forEach(([name, listener]) => target.removeEventListener(name, /** @type {any} */ (listener)));
  }, []);
}
