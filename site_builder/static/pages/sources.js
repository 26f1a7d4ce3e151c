// Where probe images are from: below the images of a neuron or a head, once it is opened.
import { html, useState } from "../vendor/htm-preact.js";
import { fetchImageOf, knowsExcited } from "../evidence.js";
import { figure } from "../format.js";
import { Failure, useLoaded } from "../parts.js";
import { link } from "../route.js";

/** Names, captions, licences and sources of the images shown; read when it is opened. said, more: of an image, its figure and what else there is */
export function Sources({ shown, said = (one) => html`<b>${figure(one.activation)}</b>`, more = (one) => `mean over patches ${figure(one.mean)}` }) {
  const [open, setOpen] = useState(false);
  const { value, error, stale } = useLoaded(async () => (open ? Promise.all(shown.map(fetchImageOf)) : []),
    [open, shown.map((one) => one.image).join()]);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}><summary>About these images</summary>
    ${error && html`<${Failure} error=${error} />`}
    <ol class="sources">${(stale ? [] : value ?? []).map((image, at) => html`<li key=${shown[at].image}>${said(shown[at])}
      <span>${knowsExcited(shown[at].probe) ? html`<a href=${link.probe(shown[at].probe, shown[at].image)}>${image.image}</a>` : image.image}${image.class && ` · ${image.class}`}${image.caption && ` · “${image.caption}”`}
      <span class="note"> ${more(shown[at])} · licence ${image.licence ?? "not stated"}${image.source && html` · <${Source} source=${image.source} />`}</span></span></li>`)}</ol></details>`;
}

/** Only an address of the web becomes a link: the text comes from the dataset. */
export const Source = ({ source }) => (/^https?:\/\//.test(source) ? html`<a href=${source} rel="noreferrer">${source}</a>` : source);
