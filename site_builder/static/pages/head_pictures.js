// What a head looks like: a picture made from noise for each of its directions, beside what the strongest real image reaches.
import { html } from "../vendor/htm-preact.js";
import { findModel } from "../data.js";
import { figure, signed } from "../format.js";
import { fetchInversions, pageOf, thumbOf } from "../inversions.js";
import { Explained, Failure, useLoaded } from "../parts.js";

/** @param {{slug: string, address: string, examples: import("../heads.js").HeadExample[]}} props */
export function HeadPictures({ slug, address, examples }) {
  const { value, error, stale } = useLoaded(async () => (findModel(slug).inversions ? fetchInversions(slug) : []), [slug]);
  if (error) return html`<${Failure} error=${error} />`;
  const all = stale ? [] : (value ?? []), own = all.filter((one) => one.head === address && one.variant === 0);
  if (own.length === 0) return null;
  const best = (direction) => Math.max(...examples.filter((one) => one.direction === direction).map((one) => one.projection));
  return html`<section aria-labelledby="pictures"><h2 id="pictures">What it looks like</h2>
    <div class="counterparts">${own.map((one) => html`<div class="neuron-tile" key=${one.at}><a href=${pageOf(slug, one.id, { by: one.recipe })}>
      <span class="shot">${one.projection === null ? html`<span class="none">no picture</span>` : html`<span class="tile" style=${{ ...thumbOf(slug, one.at, all.length), display: "block", width: "100%", aspectRatio: "1" }}></span>`}</span>
      <span class="where">${one.target.replace(/^head [^,]+, /, "")}</span></a>
      ${one.projection !== null && html`<span class="note">${figure(one.deviations)} deviations; ${signed(one.projection)}${Number.isFinite(best(one.direction)) && `, the strongest real image ${signed(best(one.direction))}`}</span>`}</div>`)}</div>
    <p class="note">Each began as noise and was changed until the head added as much as it could along the direction; <${Explained} name="deviations" column="deviations" table="inversions">in standard deviations of real images<//>,
      and as <${Explained} name="projection" column="projection" table="inversions">projection<//>. Where a picture reaches no more than real images do, look at those first.</p></section>`;
}
