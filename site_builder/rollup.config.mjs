// Joins the modules of the site into a few files; bundling.py runs it in a copy of static/.
// main.js: what the first pages need. below.js: what lies below a neuron's first screen. late.js: all other pages.
// map.js: what draws the map of all neurons. growing.js: of a site that is built again and again while a run goes on.
// image_worker.js: runs a model on a visitor's image, started by its address. offline.js: keeps what was opened.
import { transform } from "esbuild";

const options = { minify: true, target: "es2022", format: "esm" };

/** The modules that one reaches without waiting for another to be opened. */
function reached(start, getModuleInfo) {
  const found = new Set(), waiting = [start];
  while (waiting.length > 0) {
    const id = waiting.pop();
    if (found.has(id)) continue;
    found.add(id);
    waiting.push(...getModuleInfo(id).importedIds);
  }
  return found;
}

const groups = {};

export default {
  input: ["main.js", "image_worker.js"],
  plugins: [{
    name: "minify",
    buildEnd() {
      const ids = [...this.getModuleIds()], info = (id) => this.getModuleInfo(id);
      const entry = (name) => ids.find((id) => id.endsWith(`/${name}`));
      const main = reached(entry("main.js"), info), worker = reached(entry("image_worker.js"), info);
      const below = new Set(["suggest.js", "neuron_below.js", "neuron_pictures.js", "sources.js"].flatMap((name) => [...reached(entry(name), info)]));
      const image = reached(entry("pages/image.js"), info); // what both it and the map need comes with late.js
      const map = new Set([...reached(entry("map/view.js"), info)].filter((id) => !image.has(id))), alone = (id) => ["growing", "offline"].find((name) => id === entry(`${name}.js`));
      const group = (id) => main.has(id) ? "main" : worker.has(id) ? "image_worker" : below.has(id) ? "below" : map.has(id) ? "map" : alone(id) ?? "late";
      for (const id of ids) groups[id] = group(id);
    },
    renderChunk: async (code) => (await transform(code, options)).code,
  }],
  output: {
    dir: "bundled",
    format: "es",
    entryFileNames: "[name].js",
    chunkFileNames: "[name].js",
    manualChunks: (id) => groups[id],
  },
};
