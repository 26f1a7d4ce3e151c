// The canvas of a map with its buttons, what is said of the neuron that is pointed at, and the legend.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/htm-preact.js";
import { plural } from "../format.js";
import { tileStyle } from "../pictures.js";
import { addressOf, link } from "../route.js";
import { AddToCompare } from "../tray.js";
import { sentence, VERDICTS } from "../trust.js";
import { colouring } from "./colours.js";
import { boxOf, draw, projection } from "./draw.js";
import { enlarged, keyed, useMoves, WHOLE } from "./moves.js";
import { eachIn, inside, nearestTo, nodesFor, readNode, tileOf, toldOf } from "./points.js";

const REACH = 22; // pixels from a pointer within which a neuron is meant; the cross means the nearest in view, however far

/**
 * @param {{plane: import("./points.js").Plane, by: string, named: Set<number>|null, only: number, setOnly: (kind: number) => void,
 *   view: import("./draw.js").View, setView: (view: import("./draw.js").View) => void, setChosen: (chosen: any) => void}} props
 *   named: numbers of the labels that are asked for; only: the one kind that is shown, below 0: all
 */
export function Canvas({ plane, by, named, only, setOnly, view, setView, setChosen }) {
  const canvas = useRef(null);
  const current = useRef(view); // pointers come faster than pages are drawn
  current.current = view;
  const [[width, height], setSize] = useState([0, 0]);
  const [drawn, setDrawn] = useState(0); // how often something came that is to be drawn
  const [problem, setProblem] = useState(undefined);
  const [around, setAround] = useState(false);
  const [line, setLine] = useState([]);
  const [pointed, setPointed] = useState(/** @type {import("./points.js").Dot|null} */ (null));
  const [cross, setCross] = useState(false);
  const dark = useGround(canvas);
  const more = () => setDrawn((count) => count + 1);
  const fetched = usePictures(more);
  const { kinds, kindOf } = useMemo(() => colouring(plane.index, by, dark), [plane, by, dark]);
  const shown = (points, at) => (named === null || named.has(points.label[at])) && (only < 0 || kindOf(points, at) === only);

  useLayoutEffect(() => {
    const measure = () => setSize([canvas.current.clientWidth, canvas.current.clientHeight]);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(canvas.current);
    return () => observer.disconnect();
  }, []);
  const { chosen, whole } = nodesFor(plane.index, boxOf(view, Math.max(1, width), Math.max(1, height)));
  useEffect(() => {
    if (width > 0) chosen.filter((number) => !plane.loaded.has(number)).forEach((number) => readNode(plane, number).then(more, setProblem));
  }, [chosen.join(), width > 0]);
  useEffect(() => {
    const frame = requestAnimationFrame(() => paint(canvas.current, { plane, view, width, height, chosen, kinds, kindOf, shown, marked: pointed, cross, line, fetched }));
    return () => cancelAnimationFrame(frame);
  }, [view, width, height, kinds, named, only, pointed, cross, line, drawn]);

  const change = (next) => {
    current.current = next;
    setView(next);
  };
  const dotAt = (px, py, reach) => {
    const { from, scale } = projection(current.current, width, height);
    return nearestTo(plane, ...from(px, py), reach / scale);
  };
  const point = (dot) => setPointed((last) => (last !== null && dot !== null && last.points === dot.points && last.at === dot.at ? last : dot));
  const open = (dot) => {
    if (dot === null) return;
    const { slug, layer, unit } = toldOf(plane, dot);
    location.hash = link.neuron(slug, layer, unit);
  };
  /** List what `find` finds, and again once all of the view was read, unless another list was asked for or this one closed. */
  const choose = (find, title, focus) => {
    const missing = chosen.filter((number) => !plane.loaded.has(number)), asked = {};
    setChosen({ dots: find(), title, whole, coming: missing.length > 0, focus, asked });
    if (missing.length === 0) return;
    const all = () => setChosen((last) => (last?.asked === asked ? { ...last, dots: find(), coming: false, focus: false } : last));
    Promise.all(missing.map((number) => readNode(plane, number))).then(all, setProblem);
  };
  useMoves(canvas, {
    view: () => current.current, change, around,
    point: (px, py) => (setCross(false), point(dotAt(px, py, REACH))),
    leave: () => undefined, // what was pointed at last stays named
    open: (px, py, touched) => {
      const dot = dotAt(px, py, REACH);
      if (!touched || (dot !== null && pointed?.points === dot.points && pointed.at === dot.at)) open(dot);
      else point(dot);
    },
    line: (corners, done) => {
      setLine(corners);
      if (!done) return;
      setAround(false);
      choose(() => inside(plane, corners).filter(({ points, at }) => shown(points, at)), "inside the line", false);
    },
  });
  const listView = (focus) => {
    const box = boxOf(current.current, width, height);
    setLine([]);
    choose(() => {
      /** @type {import("./points.js").Dot[]} */
      const dots = [];
      eachIn(plane, box, (points, at) => void (shown(points, at) && dots.push({ points, at })));
      return dots;
    }, "in view", focus);
  };
  const atCross = () => point(dotAt(width / 2, height / 2, Math.hypot(width, height) / 2));
  const onKey = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const next = keyed(current.current, event.key, width, height);
    if (next) change(next);
    else if (event.key === "l") listView(true);
    else if (event.key === "Enter") open(pointed);
    else if (event.key === "Escape") [setLine([]), setAround(false), setChosen(null)];
    else return;
    event.preventDefault();
    event.stopPropagation(); // else the page's own keys follow too
    if (next) [setCross(true), atCross()];
  };
  const zoom = (factor) => change(enlarged(current.current, factor, width / 2, height / 2, width, height));
  const tools = [["Zoom in", "+", () => zoom(1.6), false], ["Zoom out", "−", () => zoom(1 / 1.6), view.zoom <= 1], ["The whole map", "⤢", () => change(WHOLE), view.zoom <= 1]];
  return html`<div class=${around ? "plane around" : "plane"}>
      <canvas ref=${canvas} tabindex="0" role="application" aria-label=${`Map of ${plural(plane.index.neurons, "neuron")}`} aria-describedby="map-keys" onKeyDown=${onKey}
        onFocus=${() => canvas.current.matches(":focus-visible") && (setCross(true), atCross())} onBlur=${() => setCross(false)}></canvas>
      <div class="tools" role="group" aria-label="View">${tools.map(([name, sign, act, off]) => html`<button key=${name} type="button" aria-label=${name} title=${name} disabled=${off} onClick=${act}><span aria-hidden="true">${sign}</span></button>`)}</div>
    </div>
    ${problem && html`<p class="failure" role="alert">${problem.message}</p>`}
    <${Reading} plane=${plane} dot=${pointed} spoken=${cross} />
    <${Legend} kinds=${kinds} only=${only} setOnly=${setOnly} />
    <p class="plane-choose"><button class="plain" type="button" aria-pressed=${around} onClick=${() => (setAround(!around), setLine([]))}>Draw around neurons</button>${" "}
      <button class="plain" type="button" onClick=${() => listView(false)}>List what is in view</button></p>`;
}

function paint(canvas, scene) {
  if (canvas === null || scene.width === 0) return;
  const ratio = Math.min(2, devicePixelRatio), style = getComputedStyle(canvas);
  const [wide, high] = [Math.round(scene.width * ratio), Math.round(scene.height * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  draw(context, { ...scene, ink: style.color, paper: style.backgroundColor });
}

/** Whether the canvas has a dark ground, also after the theme has changed. */
function useGround(canvas) {
  const [dark, setDark] = useState(false);
  useLayoutEffect(() => {
    const look = () => setDark((getComputedStyle(canvas.current).backgroundColor.match(/\d+/g) ?? []).slice(0, 3).every((part) => Number(part) < 128));
    look();
    const observer = new MutationObserver(look), scheme = matchMedia("(prefers-color-scheme: dark)");
    observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    scheme.addEventListener("change", look);
    return () => (observer.disconnect(), scheme.removeEventListener("change", look));
  }, []);
  return dark;
}

/** Sheets of pictures by file: null until they have come, and then something is drawn. */
function usePictures(came) {
  const held = useRef(/** @type {Map<string, HTMLImageElement>} */ (new Map()));
  return (file) => {
    const known = held.current.get(file);
    if (known) return known.complete && known.naturalWidth > 0 ? known : null;
    const image = new Image();
    image.addEventListener("load", came);
    image.src = new URL(file, document.baseURI).href;
    held.current.set(file, image);
    return null;
  };
}

/** The neuron that is pointed at, in words, with its link; its picture follows where the pointer rests. */
function Reading({ plane, dot, spoken }) {
  const [rested, setRested] = useState(dot);
  useEffect(() => {
    const timer = setTimeout(() => setRested(dot), 150);
    return () => clearTimeout(timer);
  }, [dot]);
  if (dot === null) return html`<div class="plane-reading"><span class="tile"></span><p class="note">Point at a neuron, tap it, or move the cross with the arrow keys: it is named here.</p></div>`;
  const { slug, layer, unit, label, verdict } = toldOf(plane, dot);
  const address = addressOf(slug, layer, unit), tile = rested === dot ? tileOf(plane, dot) : null;
  return html`<div class="plane-reading"><span class="tile" style=${tile ? tileStyle(tile.file, tile.place, tile.columns, tile.rows) : {}}></span>
    <p><span aria-live=${spoken ? "polite" : "off"}><a href=${link.neuron(slug, layer, unit)}>${address}</a> ${label ? html`<span class="label-small">${label}</span>` : html`<span class="note">unlabelled</span>`}
      <span class="note"> ${sentence({ verdict: VERDICTS[verdict] })}</span></span> <${AddToCompare} address=${address} /></p></div>`;
}

/** How the map is moved; `map-keys` is what the canvas is described by. */
export const Keys = () => html`<p class="note" id="map-keys">Drag to move, wheel or two fingers to zoom; with the shift key a drag draws around neurons. With the focus on the map arrow keys move it, <kbd>+</kbd> and <kbd>-</kbd> zoom, <kbd>0</kbd> shows all,${" "}
      <kbd>Enter</kbd> opens the neuron nearest to the cross, <kbd>l</kbd> lists what is in view.</p>`;

/** What each colour stands for; a click shows that kind alone. */
function Legend({ kinds, only, setOnly }) {
  return html`<div class="plane-legend" role="group" aria-label="Colours; each shows its neurons alone">${kinds.map(({ key, name, colour }) => html`<button type="button" key=${key}
    aria-pressed=${key === only} onClick=${() => setOnly(key === only ? -1 : key)}><i style=${{ "--kind": colour }}></i>${name}</button>`)}</div>`;
}
