// Runs before the first paint (a classic script in the head), so that a chosen theme never flashes the other one, and what
// the address asks for is on its way while scripts still come: the first pictures of home, of a layer, of a neuron, of a head.
(() => {
  try {
    const theme = localStorage.getItem("neuron-atlas.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // storage is switched off: the system's theme stands
  }
  const preload = (path, as) => {
    const hint = Object.assign(document.createElement("link"), { rel: "preload", as, href: path });
    if (as === "fetch") hint.crossOrigin = "anonymous"; // as fetch() asks
    document.head.append(hint);
  };
  const file = (number, size) => String(Math.floor(number / size)).padStart(5, "0");
  const site = JSON.parse(document.getElementById("manifest")?.textContent ?? "null");
  if (site === null) return;
  if (/^#?\/?$/.test(location.hash)) return void (site.wall && preload(site.wall.file, "image"));
  const [, kind, slug, layer, unit] = /^#\/([mnh])\/([a-z0-9-]+)\/(\d+)(?:\/(\d+))?$/.exec(location.hash) ?? [];
  const model = site.models.find((one) => one.slug === slug), entry = model?.layers[layer];
  if (kind === "h" && unit < model?.heads?.layers[layer]) {
    const { folder, images } = model.heads;
    preload(`${folder}/heads.json.gz`, "fetch");
    preload(`${folder}/${file(layer, 1)}.json.gz`, "fetch");
    if (images) preload(`${folder}/images/${file(layer, 1)}-${file(unit, 1)}.images`, "fetch");
  }
  if (!entry?.folder || kind === "h") return;
  if (kind === "m" && unit === undefined && model.depth) {
    const described = entry.ranges.reduce((sum, [start, stop]) => sum + stop - start, 0);
    preload(`${entry.folder}/${described > site.first ? "first" : "layer"}.json.gz`, "fetch");
    preload(`${entry.folder}/00000.webp`, "image");
  } else if (kind === "n" && entry.ranges.some(([start, stop]) => unit >= start && unit < stop)) {
    preload(`${entry.folder}/${file(unit, site.pack)}.json.gz`, "fetch");
    if (site.images.mode === "sprite" && model.depth) preload(`${entry.folder}/${file(unit, entry.bundle)}.pictures`, "fetch");
  }
})();
