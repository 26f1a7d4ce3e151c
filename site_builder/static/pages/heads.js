// All attention heads of a model: their map, and a list by any measure.
import { html, useState } from "../vendor/htm-preact.js";
import { fetchModel } from "../data.js";
import { count, plural } from "../format.js";
import { HeadMap } from "../headmap.js";
import { fetchHeads, has, headsOf } from "../heads.js";
import { useKeys } from "../keys.js";
import { measureAsked, measuresOf } from "../measures.js";
import { Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";
import { SignedBar } from "../charts.js";

const ROWS = 40; // of the list, until more are asked for

export function HeadsPage({ route }) {
  const { slug } = route;
  useTitle(`${slug}, attention heads`);
  const { value, error, stale } = useLoaded(async () => {
    const [heads, model] = await Promise.all([fetchHeads(slug), fetchModel(slug)]);
    return { heads, model };
  }, [slug]);
  useKeys({ u: () => (location.hash = link.model(slug)) }, [slug]);
  const by = route.query.get("by");
  const choose = (key) => location.replace(link.heads(slug, { by: key }));
  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], ["Heads", null]]} />
    <h1>Attention heads <span class="of">of ${slug}</span></h1>
    ${error && html`<${Failure} error=${error}><p><a href=${link.home()}>All models of this atlas</a></p><//>`}
    ${!error && !stale && value && html`<p class="lede">${summary(slug, value.heads.rows)}</p>
      <${HeadMap} slug=${slug} heads=${value.heads} by=${by} onMeasure=${choose} sites=${value.model.attention} />
      <${Ranked} key=${by} slug=${slug} heads=${value.heads} by=${by} />`}`;
}

function summary(slug, rows) {
  const { layers, labelled, texts } = headsOf(slug);
  const direct = rows.filter((row) => row.level === "direct").length;
  return [`${plural(rows.length, "head")} in ${plural(layers.filter((heads) => heads > 0).length, "layer")}`,
    direct < rows.length ? `${count(direct)} write to the final representation directly, ${count(rows.length - direct)} through later attention` : "all write to the final representation directly",
    texts && `${count(labelled)} with a label`].filter(Boolean).join(" · ");
}

/** The heads as a list, the highest first by the measure of the map. */
function Ranked({ slug, heads, by }) {
  const [shown, setShown] = useState(ROWS);
  const measure = measureAsked(measuresOf(heads), by, heads.rows);
  const rows = heads.rows.map((row, at) => ({ row, value: measure.value(row, at) })).filter(({ value }) => value !== null)
    .sort((a, b) => Number(b.value) - Number(a.value));
  const values = rows.map(({ value }) => Number(value));
  const [low, high] = [Math.min(0, ...values), Math.max(1e-12, ...values)];
  return html`<section aria-labelledby="ranked"><h2 id="ranked">By ${measure.name}, the highest first</h2>
    <ol class="ranked">${rows.slice(0, shown).map(({ row, value }) => html`<li key=${`${row.layer}/${row.unit}`}>
      <a class="where" href=${link.head(slug, row.layer, row.unit)}>layer ${row.layer}, head ${row.unit}</a>
      <span class="line"><${SignedBar} value=${value} low=${low} high=${high} /></span>
      <b class="value">${measure.words(value, row)}</b><${Said} row=${row} /></li>`)}</ol>
    ${rows.length > shown && html`<button class="plain" type="button" onClick=${() => setShown(shown + 10 * ROWS)}>${count(rows.length - shown)} more</button>`}</section>`;
}

function Said({ row }) {
  const level = row.level === "direct" ? "" : row.level;
  if (has(row.label)) return html`<span class="said">“${row.label}”${level && html` <span class="note">· ${level}</span>`}</span>`;
  return html`<span class="said note">${[row.text !== null && `unlabelled; best text “${row.text}”`, level].filter(Boolean).join(" · ")}</span>`;
}

/** The map of a model's heads on the model's own page. */
export function HeadsSection({ slug, route, sites }) {
  const { value, error, stale } = useLoaded(() => fetchHeads(slug), [slug]);
  return html`<section aria-labelledby="heads"><h2 id="heads">Attention heads</h2>
    ${error && html`<${Failure} error=${error} />`}
    ${!error && !stale && value && html`<p class="lede">${summary(slug, value.rows)}. <a href=${link.heads(slug, { by: route.query.get("by") })}>As a list</a></p>
      <${HeadMap} slug=${slug} heads=${value} by=${route.query.get("by")} sites=${sites} onMeasure=${(key) => location.replace(link.model(slug, { by: key }))} />`}</section>`;
}
