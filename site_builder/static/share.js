// Links to hand on: where this site has pages with a preview (cards.py), those; else the address on screen.
import { html } from "./vendor/htm-preact.js";
import { site } from "./data.js";
import { Copy } from "./parts.js";

const at = (/** @type {string} */ path) => new URL(`c/${path}`, document.baseURI.split("#")[0]).href;

/** @param {{page: string, slug?: string, layer?: number, unit?: number, head?: number, number?: number}} route */
export function shareLink({ page, slug, layer, unit, head, number }) {
  const level = site.cards ?? null;
  if (level === null) return location.href;
  if (page === "model") return at(`${slug}/about/`);
  if (page === "cluster" && Number(number) < site.cluster_cards) return at(`_rosetta/${number}.html`);
  if (page === "head") return at(`${slug}/head/${layer}-${head}.html`);
  if (page === "neuron" && level === "neurons") return at(`${slug}/mlp/${layer}/${unit}.html`);
  if (page === "neuron" && level === "packs") return at(`${slug}/mlp/${layer}/pack-${Math.floor(Number(unit) / site.pack)}.html#${unit}`);
  return page === "layer" ? at(`${slug}/mlp/${layer}/`) : location.href;
}

export const CopyLink = ({ route }) => html`<${Copy} text=${shareLink(route)}>Copy link<//>`;
