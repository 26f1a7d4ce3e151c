// Runs a model on an image, apart from the page so that this stays quick. It reads only what the page names, and sends
// nothing: it obeys the page's policy (runner.js), which lets it reach no other host.
import { centreOf, planes } from "./resample.js";

/**
 * @typedef {{script: string, wasm: string, graph: string, total: number, height: number, width: number, resampling: string}} Sources
 *   addresses of the runtime and the graph, and the bytes of both together; what the model takes
 */

/** @type {Sources} */ let model;
/** @type {any} */ let runtime;
/** @type {any} */ let session;
/** @type {Record<string, {data: Float32Array, dims: number[]}>} */ let found = {};

const TASKS = { load, look, map };
const LEAST_SIDE = 16; // pixels, as in pipeline/images/decoding.py

let last = Promise.resolve(); // one task after the other: maps are those of the image that was looked at last

onmessage = ({ data }) => void (last = last.then(() => answer(data)));

async function answer({ id, task, given }) {
  try {
    postMessage({ id, value: await TASKS[task](given) });
  } catch (error) {
    postMessage({ id, error: error instanceof Error ? error.message : String(error) });
  }
}

/** Fetch runtime and graph, saying how far that is, and make them ready. */
async function load(/** @type {Sources} */ sources) {
  model = sources;
  let done = 0;
  const count = (/** @type {number} */ bytes) => postMessage({ done: done += bytes, total: sources.total });
  const [packed, graph] = await Promise.all([read(sources.wasm, count), read(sources.graph, count)]);
  runtime = await import(sources.script);
  runtime.env.wasm.wasmBinary = await unpacked(packed);
  runtime.env.wasm.numThreads = 1; // more need headers that file hosts do not send
  session = await runtime.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  return true;
}

async function read(/** @type {string} */ url, /** @type {(bytes: number) => void} */ count) {
  const response = await fetch(url);
  if (!response.ok || response.body === null) throw new Error(`${url}: the server answered ${response.status}. Reload the page; if it stays so, build and upload the site again.`);
  const parts = [];
  const reader = response.body.getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    count(/** @type {Uint8Array} */ (value).length);
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** What a gzip file holds; some servers have unpacked it already. */
async function unpacked(/** @type {Uint8Array} */ bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes.buffer;
  return new Response(new Blob([/** @type {any} */ (bytes)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/**
 * Run the model on an image: each layer's strongest patch of every neuron, and the seconds it took.
 * @param {{image: Blob|ImageBitmap}} given
 */
async function look({ image }) {
  const square = await squareOf(image);
  const input = new runtime.Tensor("float32", planes(square), [1, 3, model.height, model.width]);
  const began = performance.now();
  found = await session.run({ pixels: input });
  const seconds = (performance.now() - began) / 1000;
  const peaks = Object.fromEntries(Object.keys(found).flatMap((name) => (name.startsWith("peaks.") ? [[name.slice(6), Float32Array.from(found[name].data)]] : [])));
  return { peaks, seconds };
}

/** The pixels that the model takes, (height, width, 3): upright, on white where it is transparent, colour profiles left aside. */
async function squareOf(/** @type {Blob|ImageBitmap} */ image) {
  const bitmap = image instanceof Blob ? await decoded(image) : image;
  const { width, height } = bitmap;
  if (Math.min(width, height) < LEAST_SIDE) throw new Error(`${width} x ${height} pixels: too small to show anything. Take an image of at least ${LEAST_SIDE} pixels a side.`);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true }));
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return centreOf(pen.getImageData(0, 0, width, height).data, width, height, model.width, model.height, model.resampling);
}

async function decoded(/** @type {Blob} */ file) {
  try {
    return await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("This browser cannot read the file as an image, or it is too large. JPEG, PNG, WebP, GIF, BMP and AVIF are read.");
  }
}

/** Activation of one neuron at every patch of the last image, from the call of its layer that fired most. @param {{layer: number, unit: number}} given */
async function map({ layer, unit }) {
  const calls = Object.keys(found).filter((name) => name.startsWith(`map.${layer}.`)).map((name) => {
    const { data, dims: [rows, columns, width] } = found[name];
    return { rows, columns, values: Float32Array.from({ length: rows * columns }, (_, at) => data[at * width + unit]) };
  });
  const best = (/** @type {{values: Float32Array}} */ call) => call.values.reduce((most, one) => Math.max(most, one), -Infinity);
  return calls.reduce((most, call) => (best(call) > best(most) ? call : most));
}
