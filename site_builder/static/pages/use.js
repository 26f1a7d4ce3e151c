// Taking a page along, for neurons and heads alike: a frame for other pages, the row as JSON, BibTeX.
import { html } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { Snippet } from "../parts.js";

/** What stands in a page of one's own. @param {string} hash of the embed view */
const frame = (hash, title) =>
  `<iframe src="${new URL(hash, document.baseURI.split("#")[0]).href}" title="${title}" width="640" height="300" loading="lazy" style="border: 0"></iframe>`;

const SIGNS = { "{": "\\{", "}": "\\}", "%": "\\%", "&": "\\&", "_": "\\_", "#": "\\#", $: "\\$" };
const tex = (/** @type {string} */ text) => text.replace(/[{}%&_#$]/g, (sign) => SIGNS[sign]);

/** BibTeX of one neuron or head: with the revision of the data, which changes when any figure does. */
export function bibtex(address, label, model, year = new Date().getFullYear()) {
  const title = label ? `${address} (\`\`${label}'')` : address;
  return `@misc{${address.replace(/[^a-z0-9]+/g, "-")},
  title        = {${tex(title)}},
  howpublished = {\\url{${location.href}}},
  year         = {${year}},
  note         = {${tex(site.title)}, revision ${site.revision}, schema ${site.schema}; model ${tex(model.model_id)}, weights SHA-256 ${model.fingerprint}}
}`;
}

/** @param {{address: string, label: string|null, model: any, row: any, embed: string}} props */
export function TakeAlong({ address, label, model, row, embed }) {
  return html`<${Snippet} title="BibTeX" text=${bibtex(address, label, model)} />
    <${Snippet} title="In a page of your own" text=${frame(embed, address)} wrapped />
    <details><summary>This row as JSON</summary><${Snippet} title=${address} text=${JSON.stringify({ address, ...row }, null, 1)} /></details>`;
}
