// All pages, a line each: the form of its address, the script that draws it, the words that lead to it.
// A new page is its script and its line here; routes, links and entries derive from this list (route.js, parts.js).
// Nothing here needs a document, so that addresses are read and written anywhere.
import { plural } from "../format.js";

/**
 * @typedef {{page: string, form?: string, soon?: string, late?: string, stays?: boolean, bare?: boolean,
 *   entry?: (about: any, write: {html: any, link: Record<string, (...parts: any[]) => string>}) => any}} Page
 *   form: what follows `#/`, with the parts of the address in braces: a slug, a `whole` number or any `text`
 *   soon, late: its script beside this file, which exports the page as a component (NeuronPage for `neuron`): it comes with
 *     the site, or when the page is first opened. By name, so that this list needs no page and pages may link to each other
 *   bare: inside another page, without the bar above
 *   stays: from one to another of its kind the eye stays where it is
 *   entry: a few words with a link, given the manifest, for the home page; of a page whose form ends with a slug given the model's
 *   entry in it, where the model is told of; nothing where this atlas has no such page
 */

/** @type {Page[]} */
export const PAGES = [
  { page: "home", form: "", soon: "home.js" },
  { page: "model", form: "m/{slug}", soon: "model.js" },
  { page: "layer", form: "m/{slug}/{layer:whole}", soon: "layer.js" },
  { page: "neuron", form: "n/{slug}/{layer:whole}/{unit:whole}", soon: "neuron.js", stays: true },
  { page: "heads", form: "h/{slug}", late: "heads.js",
    entry: ({ slug, heads }, { html, link }) => heads && html`<a href=${link.heads(slug)}>${plural(heads.layers.reduce((all, own) => all + own, 0), "head")}</a>` },
  { page: "head", form: "h/{slug}/{layer:whole}/{head:whole}", late: "head.js", stays: true },
  { page: "inversions", form: "i/{slug}", late: "inversions.js",
    entry: ({ slug, inversions: all }, { html, link }) => all && html`<a href=${link.inversions(slug)}>${plural(all.rows, "inversion")}</a>` },
  { page: "inversion", form: "i/{slug}/{kind}/{id}", late: "inversion.js", stays: true },
  { page: "headpicture", form: "i/{slug}/head/{place:text}/{direction}", late: "inversion.js", stays: true },
  { page: "features", form: "features", late: "features.js",
    entry: ({ features }, { html, link }) => features && html`<a href=${link.features()}>${plural(features.list.length, "feature")}</a>: which heads carry
      ${features.list.slice(0, 3).map(({ name }, at) => html`${at > 0 ? ", " : " "}<a href=${link.feature(name)}>${name}</a>`)}${features.list.length > 3 && " …"}` },
  { page: "feature", form: "f/{feature:text}", late: "features.js" },
  { page: "clusters", form: "rosetta", late: "cluster.js",
    entry: ({ clusters }, { html, link }) => clusters && html`<a href=${link.clusters()}>${plural(clusters.clusters, "Rosetta cluster")}</a>: neurons of three or more models that fire alike.` },
  { page: "cluster", form: "r/{number:whole}", late: "cluster.js" },
  { page: "probes", form: "p/{set}", late: "probe.js",
    entry: ({ excited }, { html, link }) => Object.entries(excited ?? {}).slice(0, 1).map(([set, { images }]) => html`<a href=${link.probes(set)}>${plural(images, "probe image")}</a>: what neurons each excites.`)[0] },
  { page: "probe", form: "p/{set}/{number:whole}", late: "probe.js", stays: true },
  { page: "map", form: "map", late: "map.js",
    entry: ({ map, models }, { html, link }) => (map || models.some((model) => model.map)) && html`<a href=${link.map()}>The map</a>: all neurons laid out by what they fire on.` },
  { page: "modelmap", form: "map/{slug}", late: "map.js", entry: ({ slug, map }, { html, link }) => map && html`<a href=${link.modelmap(slug)}>map</a>` },
  { page: "images", form: "image", late: "image.js",
    entry: ({ runtime }, { html, link }) => runtime && html`<a href=${link.images()}>Find the neurons of an image of yours</a>: the model runs in this browser.` },
  { page: "image", form: "image/{slug}", late: "image.js",
    entry: ({ slug, browser }, { html, link }) => browser && html`<a href=${link.image(slug)}>your image</a>` },
  { page: "compare", form: "cmp", late: "compare.js" },
  { page: "embed", form: "e/n/{slug}/{layer:whole}/{unit:whole}", late: "embed.js", bare: true },
  { page: "embedhead", form: "e/h/{slug}/{layer:whole}/{head:whole}", late: "embed.js", bare: true },
  { page: "search", form: "s", soon: "search.js" },
  { page: "help", form: "help", late: "help.js" },
  { page: "random", form: "r" }, // leads to any neuron
  { page: "unknown", late: "search_more.js" },
];
