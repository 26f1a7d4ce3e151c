// The same neuron by other recipes and in several variants; this file is read where an atlas has such pictures.
import { html } from "../vendor/htm-preact.js";
import { findModel, number5, once, request } from "../data.js";
import { readBundle } from "../evidence.js";
import { figure } from "../format.js";
import { Failure, useLoaded } from "../parts.js";
import { pictureUrl } from "../pictures.js";
import { sentence } from "../trust.js";

/**
 * @typedef {{unit: number, recipe: string, variant: number, status: string, status_reason?: string, activation?: number,
 *   activation_peak?: number, activation_start?: number, verdict?: string, verdict_reason?: string, natural_mean?: number,
 *   natural_peak?: number, likeness?: number, start_image?: string, url: string|null}} FurtherPicture
 */

const GRID = { display: "grid", gridTemplateColumns: "repeat(auto-fill, minmax(104px, 1fr))", gap: "12px 8px", margin: "12px 0" };
const BOX = { display: "block", width: "100%", aspectRatio: "1", overflow: "hidden", background: "var(--sunk)" };
const CAPTION = { marginTop: "4px", fontSize: "13px", lineHeight: "16px" };

/** The further pictures of a neuron, by recipe and variant; null where its layer has none. @returns {Promise<FurtherPicture[]|null>} */
async function fetchPictures(/** @type {string} */ slug, /** @type {number} */ layer, /** @type {number} */ unit) {
  const { pictures: folder, further } = findModel(slug).layers[layer] ?? {};
  if (folder === undefined) return null;
  const path = `${folder}/${number5(unit / further)}.images`;
  const all = await once(path, async () => readBundle(await (await request(path)).arrayBuffer(), path));
  return all.filter((/** @type {FurtherPicture} */ one) => one.unit === unit);
}

/** The main picture beside those by other recipes and in several variants, each with its own verdict. */
export function PicturesSection({ slug, layer, unit, row }) {
  const { value, error, stale } = useLoaded(() => fetchPictures(slug, layer, unit), [slug, layer, unit]);
  const main = useLoaded(async () => (row.recipe && row.status !== "failed" ? pictureUrl(slug, layer, unit).catch(() => null) : null), [slug, layer, unit]);
  if (error) return html`<section><h2>In other ways</h2><${Failure} error=${error} /></section>`;
  const several = (one) => value.filter(({ recipe }) => recipe === one.recipe).length > 1;
  return html`<section aria-labelledby="pictures" class="pictures" aria-busy=${stale}><h2 id="pictures">In other ways</h2>
    <div style=${GRID}>
      ${row.recipe && html`<${PictureTile} one=${{ ...row, url: main.stale ? null : main.value }} name=${`${row.recipe}, above`} />`}
      ${(stale ? [] : (value ?? [])).map((one) => html`<${PictureTile} key=${`${one.recipe} ${one.variant}`} one=${one}
        name=${several(one) ? `${one.recipe} ${one.variant + 1}` : one.recipe} />`)}</div>
    <p class="note">The same neuron by other recipes. The figure is what is left of the activation when the picture is changed a little,
      mean over patches and strongest patch. Recipes aim at different things: compare what they show, not their figures alone.</p></section>`;
}

function PictureTile({ one, name }) {
  const said = [sentence(one), one.verdict_reason, one.start_image && `Begun with ${one.start_image}.`,
    one.likeness !== undefined && `Likeness to the nearest variant ${figure(one.likeness)}.`];
  return html`<figure class="other" style=${{ margin: 0 }}><div style=${BOX} title=${said.filter(Boolean).join(" ")}>
      ${one.url ? html`<img style=${BOX} src=${one.url} alt=${`Picture by the recipe ${name}`} />` : html`<span class="note">${one.status_reason ?? ""}</span>`}</div>
    <figcaption style=${CAPTION}><b>${name}</b><br />${one.verdict ?? one.status}<br />${figure(one.natural_mean)} / ${figure(one.natural_peak)}</figcaption></figure>`;
}
