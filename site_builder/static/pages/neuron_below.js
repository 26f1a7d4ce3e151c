// What stands below a neuron's picture and images: how far to trust it, what else was found, its numbers, how to take it along.
import { html } from "../vendor/htm-preact.js";
import { findModel } from "../data.js";
import { Fold } from "../fold.js";
import { Lazy } from "../parts.js";
import { Lacking } from "../stages.js";
import { ClassesSection, WritesLine } from "./neuron_classes.js";
import { LabelSection } from "./neuron_label.js";
import { MatchesSection } from "./neuron_matches.js";
import { Fires, Numbers, Trust } from "./neuron_numbers.js";
import { ReadersSection } from "./neuron_readers.js";
import { HowMade, UseThis } from "./neuron_use.js";

/** @param {{slug: string, layer: number, unit: number, row: any, model: any, trusted: boolean}} props trusted: how far to trust the picture is said elsewhere */
export function NeuronBelow({ slug, layer, unit, row, model, trusted }) {
  const place = { slug, layer, unit };
  const summary = model.layers[layer];
  const probed = findModel(slug).stages.includes("examples"); // else what is missing stands where the images would be
  return html`${!trusted && html`<${TrustSection} row=${row} summary=${summary} layer=${layer} wide />`}
    <${InOtherWays} ...${place} row=${row} />
    ${!probed && html`<${Lacking} slug=${slug} />`}
    <${ClassesSection} slug=${slug} row=${row} />
    <${MatchesSection} ...${place} />
    <${ReadersSection} ...${place} />
    ${probed && html`<${Lacking} slug=${slug} />`}
    <${LabelSection} row=${row} />
    <${Fold} id="numbers" name="Numbers" hint="every figure of this neuron, with what it means"><${Numbers} row=${row} summary=${summary} /><//>
    <${Fold} id="made" name="How it was made" hint="recipe, seed, weights, versions, runs"><${HowMade} row=${row} model=${model} site=${model.sites[layer]} /><//>
    <section aria-labelledby="use"><h2 id="use">Use this</h2><${UseThis} ...${place} row=${row} model=${model} /></section>`;
}

/** What the picture reaches against what, and how rarely real images fire the neuron; side by side where it is `wide`. */
export function TrustSection({ row, summary, layer, wide = false }) {
  const failed = row.status === "failed";
  const seen = row.status !== null && !failed; // the visualize stage made its picture
  const lacking = failed ? `No picture: ${row.status_reason}.` : "This neuron has no picture yet.";
  return html`<section class="trust" aria-labelledby=${seen ? "trust" : null}>${seen && html`<h2 id="trust">How far to trust the picture</h2>`}
    <div class=${wide ? "columns-2" : ""}><div>${seen ? html`<${Trust} row=${row} summary=${summary} layer=${layer} />` : html`<p class="note">${lacking}</p>`}</div>
      <div><${Fires} row=${row} /><${WritesLine} row=${row} /></div></div></section>`;
}

const pictures = () => import("./neuron_pictures.js");

/** By other recipes and in several variants, where this neuron has such pictures: the script comes then. */
function InOtherWays({ slug, layer, unit, row }) {
  const some = findModel(slug).layers[layer]?.pictures !== undefined;
  return some && html`<${Lazy} load=${pictures} name="PicturesSection" props=${{ slug, layer, unit, row }} />`;
}
