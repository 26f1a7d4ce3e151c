// A model's classes, or the texts that a CLIP was asked for, as pictures that it takes for them; and what a search finds of these.
import { html, useState } from "../vendor/htm-preact.js";
import { site } from "../data.js";
import { figure, percent, plural } from "../format.js";
import { asked as queryOf, fetchInversions, firsts, pageOf, saysAll, thumbOf } from "../inversions.js";
import { Choice, Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";

const SHOWN = 240; // tiles, until more are asked for
const GRID = { display: "grid", gridTemplateColumns: "repeat(auto-fill, minmax(104px, 1fr))", gap: "12px 8px", listStyle: "none", margin: "12px 0", padding: 0 };
const BOX = { display: "block", width: "100%", aspectRatio: "1", backgroundColor: "var(--sunk)" };
const CAPTION = { fontSize: "13px", lineHeight: "16px", marginTop: "4px", overflowWrap: "anywhere" };

export function InversionsPage({ route }) {
  const { slug } = route;
  useTitle(`${slug}, inversions`);
  const { value, error, stale } = useLoaded(() => fetchInversions(slug), [slug]);
  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], ["Inversions", null]]} />
    <h1>Inversions <span class="of">of ${slug}</span></h1>
    ${error && html`<${Failure} error=${error}><p><a href=${link.home()}>All models of this atlas</a></p><//>`}
    ${!error && !stale && value && html`<${Wall} slug=${slug} all=${value} route=${route} />`}`;
}

function Wall({ slug, all, route }) {
  const recipes = [...new Set(all.map(({ recipe }) => recipe))];
  const recipe = recipes.includes(route.query.get("by")) ? route.query.get("by") : recipes[0];
  const [text, setText] = useState("");
  const [shown, setShown] = useState(SHOWN);
  const every = all.filter((one) => one.recipe === recipe && saysAll(one.target, text)), own = firsts(every);
  const read = own.some((one) => one.read);
  const texts = all.some(({ kind }) => kind === "text");
  const heads = all.some(({ kind }) => kind === "head");
  return html`<p class="lede">Each picture began as noise and was changed until ${slug} took it for ${texts ? "what the words say" : "the class"}${heads && ", or, of heads, until the head added as much as it could along the direction"}. It shows
      what the model asks for, not what a photograph of it looks like: of many there is little that a person would name.
      ${!texts && html` Below each stands ${read ? "how many of the other models, which did not make it, take it for the same class" : "how often the class still comes first when the picture is changed a little"}${heads && "; of heads, how many standard deviations of real images it reaches"}.`}</p>
    ${read && html`<${Transfer} slug=${slug} own=${every} />`}
    <div class="sortbar"><div><label for="of-target">Find</label><input id="of-target" type="search" value=${text}
        placeholder=${texts ? "words" : "a class"} onInput=${(event) => setText(event.target.value)} /></div>
      ${recipes.length > 1 && html`<${Choice} name="Recipe" value=${recipe} options=${recipes.map((one) => [one, one])}
        onChange=${(one) => location.replace(link.inversions(slug, { by: one }))} />`}
      <p role="status">${plural(own.length, texts && !heads ? "text" : "picture")}${every.length > own.length && `, the best read of ${every.length / own.length} each`}</p></div>
    ${grouped(own.slice(0, shown)).map(([name, some]) => html`<section key=${name}>${name && html`<h2>${name}</h2>`}
      <ul style=${GRID}>${some.map((one) => html`<li key=${one.at}><${InversionTile} slug=${slug} one=${one} total=${all.length} short=${name !== ""} /></li>`)}</ul></section>`)}
    ${own.length > shown && html`<button class="plain" type="button" onClick=${() => setShown(shown + 4 * SHOWN)}>${own.length - shown} more</button>`}`;
}

/** How much of a model's classes others recognize, beside what a guess would reach. */
function Transfer({ slug, own }) {
  const seen = own.filter((one) => one.read && one.rivals);
  const right = seen.reduce((sum, { read }) => sum + read[0] / read[1], 0) / seen.length;
  const chance = seen.reduce((sum, { rivals }) => sum + 1 / rivals, 0) / seen.length;
  return html`<p style=${{ margin: "8px 0 16px" }}>Other models take ${percent(right)} of these pictures of ${slug} for the same class; guesses would be right in ${percent(chance)}.</p>`;
}

/** Classes that are answers to different questions ("colour: red") under these, all others together; then head by head. */
function grouped(all) {
  const heads = all.filter(({ kind }) => kind === "head"), others = all.filter(({ kind }) => kind !== "head");
  const asked = (one) => /^([^:]{1,24}): /.exec(one.target)?.[1];
  const by = (some, nameOf) => [...new Set(some.map(nameOf))].map((name) => [name, some.filter((one) => nameOf(one) === name)]);
  const parted = others.every((one) => one.kind === "class" && asked(one)) ? by(others, asked) : [["", others]];
  return [...parted, ...by(heads, (one) => one.target.replace(/^h(.*?),.*$/, "H$1"))];
}

/** @param {{slug: string, one: import("../inversions.js").Listed, total: number, short?: boolean, named?: boolean}} props */
export function InversionTile({ slug, one, total, short = false, named = false }) {
  const said = one.score === null ? "no picture" : one.read ? `read by ${one.read[0]} of ${one.read[1]}`
    : one.kind === "head" ? `${figure(one.deviations)} deviations` : one.kind === "text" ? `cosine ${figure(one.score)}` : `holds in ${percent(one.natural_right ?? 0)}`;
  return html`<a style=${{ display: "block" }} href=${pageOf(slug, one.id, queryOf(one))}>
    <span class="tile" style=${one.score === null ? BOX : { ...thumbOf(slug, one.at, total), ...BOX }}></span>
    <span style=${{ ...CAPTION, display: "block" }}>${named && html`<b>${slug}</b><br />`}${short ? one.target.replace(/^[^:]+: |^head [^,]+, /, "") : one.target}<br />
      <span class="note">${said}</span></span></a>`;
}

/** Targets whose names hold the words of a search, over all models. */
export function FoundInversions({ text, model }) {
  const slugs = site.models.filter((entry) => entry.inversions && (model === "" || entry.slug === model)).map(({ slug }) => slug);
  const { value, error, stale } = useLoaded(() => Promise.all(slugs.map(async (slug) => {
    const all = await fetchInversions(slug);
    return firsts(all).filter((one) => saysAll(one.target, text)).map((one) => ({ slug, one, total: all.length }));
  })), [text, model]);
  if (error) return html`<${Failure} error=${error} />`;
  const found = stale || value === undefined ? [] : value.flat();
  if (found.length === 0 || text.trim() === "") return null;
  return html`<section aria-labelledby="found-inversions"><h2 id="found-inversions">Inversions <span class="note">${plural(found.length, "picture")}</span></h2>
    <ul style=${GRID}>${found.slice(0, 24).map(({ slug, one, total }) => html`<li key=${`${slug} ${one.at}`}><${InversionTile} slug=${slug} one=${one} total=${total} named /></li>`)}</ul></section>`;
}
