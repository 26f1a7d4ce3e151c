// Models that run in this browser: fetched when they are asked for, run by a worker beside the page.
import { findModel, site, Trouble } from "./data.js";

/** @typedef {{peaks: Record<string, Float32Array>, seconds: number}} Look strongest patch of every neuron by layer; how long the model took */
/** @typedef {{rows: number, columns: number, values: Float32Array}} Field activation at every patch, row by row */

const absolute = (/** @type {string} */ path) => new URL(path, document.baseURI).href;

/**
 * A worker whose script is a few words of this page's: so it obeys this page's policy, which forbids it to reach any other
 * host. A worker from an address would have a policy of its own.
 */
function worker() {
  const script = new URL("image_worker.js", import.meta.url).href;
  const words = URL.createObjectURL(new Blob([`import ${JSON.stringify(script)};`], { type: "text/javascript" }));
  return new Worker(words, { type: "module" });
}

/** A model, ready once `ready` is kept. */
export class Runner {
  /** @param {string} slug @param {(done: number, total: number) => void} progress */
  constructor(slug, progress) {
    this.slug = slug;
    this.last = 0;
    /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
    this.waiting = new Map();
    this.worker = worker();
    this.worker.onmessage = ({ data: { id, value, error, done, total } }) => {
      if (id === undefined) return progress(done, total);
      const { resolve, reject } = this.waiting.get(id) ?? { resolve() {}, reject() {} };
      this.waiting.delete(id);
      error === undefined ? resolve(value) : reject(new Trouble(error));
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Trouble(`The model cannot run in this browser (${event.message || "its worker did not start"}). It needs WebAssembly and workers of modules: browsers of 2023 or later have both.`));
      this.waiting.clear();
    };
    this.ready = this.ask("load", sources(slug));
  }

  /** @returns {Promise<any>} */
  ask(/** @type {string} */ task, /** @type {any} */ given, /** @type {Transferable[]} */ moved = []) {
    const id = this.last++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, task, given }, moved);
    });
  }

  /** Once it is ready. @returns {Promise<Look>} */
  look(/** @type {Blob|ImageBitmap} */ image) {
    return this.ask("look", { image }, image instanceof Blob ? [] : [image]);
  }

  /** The map of a neuron on the image that was looked at last. @returns {Promise<Field>} */
  map(/** @type {number} */ layer, /** @type {number} */ unit) {
    return this.ask("map", { layer, unit });
  }

  close() {
    this.worker.terminate();
  }
}

/** What this site has of a model for browsers; an error that says how to add it where it has nothing. */
export function runnable(/** @type {string} */ slug) {
  const { browser } = findModel(slug), { runtime } = site;
  if (browser === null || runtime === null) {
    throw new Trouble(`This site has ${slug} not in a form that browsers run. Build it with: neuron-atlas site build ATLAS --in-browser ${slug}`);
  }
  return { ...browser, runtime, total: browser.bytes + runtime.bytes }; // total: bytes that are fetched before it runs
}

function sources(/** @type {string} */ slug) {
  const { folder, height, width, resampling, runtime, total } = runnable(slug);
  return { script: absolute(`${runtime.folder}/ort.js`), wasm: absolute(`${runtime.folder}/ort.wasm.gz`), graph: absolute(`${folder}/model.onnx`), total, height, width, resampling };
}
