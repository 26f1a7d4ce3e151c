// Real images that excite a neuron, and images near lower quantiles, with the place that fires.
import { html, useState } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { fetchExamples, hasExamples } from "../evidence.js";
import { count, figure, percent } from "../format.js";
import { useKeys } from "../keys.js";
import { nextOverlay, OVERLAYS } from "../maps.js";
import { Choice, Failure, Lazy, useLoaded, usePreference } from "../parts.js";
import { ExampleTile } from "../tiles.js";

const BOXES = 9;
const sources = () => import("./sources.js");
const KINDS = { top: "strongest", quantile: "lower quantiles" };

export function ImagesSection({ slug, layer, unit, row, model }) {
  const { value, error, stale } = useLoaded(() => fetchExamples(slug, layer, unit), [slug, layer, unit]);
  if (!hasExamples(slug, layer)) return null; // said with the other stages that this atlas lacks
  if (error) return html`<section><h2>Exciting images</h2><${Failure} error=${error} /></section>`;
  return html`<section aria-labelledby="images" class="images" aria-busy=${stale}><h2 id="images">Exciting images</h2>
    ${!stale && value?.length === 0 ? html`<p class="note">The probe stage found no image that fires this neuron.</p>`
      : html`<${Images} examples=${stale ? [] : (value ?? [])} row=${row} name=${model.model.probe_name} />`}</section>`;
}

/** What stands in the place of an image until it is known which: the page does not jump. */
const Box = () => html`<figure class="example" aria-hidden="true"><div class="shot"></div><figcaption>\u00a0<span class="class">\u00a0</span></figcaption></figure>`;

function Images({ examples, row, name }) {
  const kinds = Object.keys(KINDS).filter((kind) => examples.length === 0 || examples.some((one) => one.kind === kind));
  const [asked, setKind] = useState("top");
  const kind = kinds.includes(asked) ? asked : (kinds[0] ?? "top");
  const [overlay, setOverlay] = usePreference("overlay", "spotlight");
  useKeys({ h: () => setOverlay(nextOverlay) }, []);
  const full = Math.max(...examples.map((one) => one.high), 0);
  const shown = examples.filter((one) => one.kind === kind);
  const probe = site.probes[examples[0]?.probe];
  return html`<div class="sortbar">
      <div><span>Show</span><${Choice} name="Images" value=${kind} options=${kinds.map((key) => [key, KINDS[key]])} onChange=${setKind} /></div>
      <div><span>Overlay <kbd>h</kbd></span><${Choice} name="Overlay" value=${overlay} options=${OVERLAYS} onChange=${setOverlay} /></div></div>
    <div class="examples">${examples.length === 0 && Array.from({ length: BOXES }, (_, at) => html`<${Box} key=${`box ${at}`} />`)}${shown.map((one) => html`<${ExampleTile} key=${`${one.kind} ${one.image}`} example=${one} overlay=${overlay} full=${full}
      note=${kind === "quantile" ? `above ${percent(one.quantile)}` : ""} />`)}</div>
    <p class="note">${words(kind, shown.length, row, name)} ${MEANING[overlay]?.(full) ?? ""} The frame is the strongest patch.
      ${examples.length > 0 && (probe === undefined ? " This atlas lists no probe images." : !probe.thumbnails ? " The images themselves are not part of this atlas: their licence or the run's choice leaves their names alone." : "")}</p>
    ${probe !== undefined && html`<${Lazy} key=${kind} load=${sources} name="Sources" props=${{ shown }} />`}`;
}

function words(kind, shown, row, name) {
  const set = html`${row.probe_images ? html`<b>${count(row.probe_images)}</b> images` : "images"} of ${name ? html`probe set ${name}` : "the probe set"}`;
  return kind === "top" ? html`The ${shown} of ${set} with the strongest patch; the figure is its activation.`
    : html`Images near lower quantiles of ${set}: what the neuron does when it fires less.`;
}

const MEANING = {
  heat: (full) => `Heat: activation from 0, clear, to ${figure(full)}, yellow; one scale for all images.`,
  spotlight: () => "Spotlight: the less a patch fires, the darker; each image on its own scale.",
  crop: () => "Crop: the window around the strongest patch that labels are compared with.",
};
