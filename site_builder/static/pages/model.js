// A model as its layers: from the input down to the output, eight pictures each.
import { html } from "../vendor/htm-preact.js";
import { Shares } from "../charts.js";
import { described, fetchModel, findModel } from "../data.js";
import { count, day, figure, grids, percent, plural, pretty, stagesOf, versions, written } from "../format.js";
import { entries, Explained, Failure, Figure, Lazy, Trail, useLoaded, useTitle } from "../parts.js";
import { tileStyle } from "../pictures.js";
import { link } from "../route.js";
import { Lacking } from "../stages.js";
import { Runs } from "./runs.js";

export function ModelPage({ route }) {
  useTitle(route.slug);
  const { value, error, stale } = useLoaded(() => fetchModel(route.slug), [route.slug]);
  if (error) return html`<h1>${route.slug}</h1><${Failure} error=${error}><p><a href=${link.home()}>All models of this atlas</a></p><//>`;
  if (stale) return html`<p class="note">Reading ${route.slug} …</p>`;
  const entry = findModel(route.slug);
  return html`<${Trail} trail=${[["Models", link.home()], [route.slug, null]]} />
    <h1>${route.slug}</h1>
    <p class="lede">${value.model.model_id} · ${value.model.family} · ${plural(value.model.neurons, "neuron")} in ${plural(value.sites.length, "layer")}${entry.described < entry.neurons && `, ${count(entry.described)} of them in this atlas`}${entries(entry, true).map((words) => html` · ${words}`)}</p>
    <section aria-labelledby="layers"><h2 id="layers">Layers, from the input to the output</h2>
      <p class="note">The eight pictures of a layer that hold best, best first.</p>
      <ol class="layers">${value.sites.map((site) => html`<${LayerRow} key=${site.layer} slug=${route.slug} site=${site}
        entry=${entry.layers[site.layer]} summary=${value.layers[site.layer]} />`)}</ol>
    </section>
    ${entry.heads && html`<${Lazy} load=${() => import("./heads.js")} name="HeadsSection" props=${{ slug: route.slug, route, sites: value.attention }} />`}
    <${Lacking} slug=${route.slug} />
    <section aria-labelledby="facts"><h2 id="facts">Facts</h2><${Facts} model=${value.model} /></section>
    <section aria-labelledby="made"><h2 id="made">How each stage was made</h2><${Made} model=${value.model} /></section>
    <section aria-labelledby="runs"><h2 id="runs">Runs</h2><${Runs} runs=${value.runs} /></section>`;
}

function LayerRow({ slug, site, entry, summary }) {
  const name = html`<div class="name"><b>Layer ${site.layer}</b>
    <span class="note"><code>${site.path}</code><br />${grids(site.grids)} tokens · ${plural(site.width, "unit")}</span></div>`;
  if (summary === null || described(entry) === 0) {
    const why = site.planned?.length > 0
      ? html`Planned, not complete yet: the same <code>neuron-atlas run</code> again resumes it.` : "Not described in this atlas.";
    return html`<li class="absent">${name}<p class="note">${why}</p></li>`;
  }
  if (summary.strip.length === 0) return html`<li><a class="open" href=${link.layer(slug, site.layer)}>${name}</a><p class="note">No pictures.</p><${Sum} summary=${summary} /></li>`;
  const strip = `${entry.folder}/strip.webp`;
  return html`<li>
    <a class="open" href=${link.layer(slug, site.layer)}>${name}</a>
    <div class="strip">${summary.strip.map((unit, at) => html`<a key=${unit} class="tile" href=${link.neuron(slug, site.layer, unit)}
      title=${`Unit ${unit}`} aria-label=${`Layer ${site.layer}, unit ${unit}`}
      style=${{ ...tileStyle(strip, at, summary.strip.length, 1), backgroundColor: `#${summary.colors[at]}` }}></a>`)}</div>
    <${Sum} summary=${summary} />
  </li>`;
}

function Sum({ summary }) {
  return html`<div class="sum"><${Shares} parts=${sharesOf(summary)} />
      ${summary.judged > 0 && html`<p class="note">${percent(summary.holds / summary.judged)} of pictures hold under natural changes</p>`}
      ${summary.compared > 0 && html`<p class="note">${percent(summary.beats_all / summary.compared)} of pictures beat every real image${summary.judged > 0 && " and hold at least in part"}</p>`}
      ${summary.quantiles[2] !== null && html`<p class="note">activation, median ${figure(summary.quantiles[2])}</p>`}</div>`;
}

/** A layer's neurons by what is known of them: labels where they were tried, else whether a picture moves them. */
function sharesOf({ described: all, active, inactive, labelled, unlabelled, silent }) {
  if (labelled + unlabelled === 0) return [{ name: "active", value: active, kind: "active" }, { name: "inactive", value: inactive, kind: "inactive" },
    ...(all > active + inactive ? [{ name: "without a picture", value: all - active - inactive, kind: "unseen" }] : [])];
  // real images may fire a neuron that no picture moves: with a label it counts as labelled
  return [{ name: "labelled", value: labelled, kind: "active" }, { name: "unlabelled", value: unlabelled - silent, kind: "unlabelled" },
    { name: "inactive", value: silent, kind: "inactive" }];
}

function Facts({ model }) {
  const fact = (name, column, value, rest = {}) => html`<${Figure} key=${column} name=${name} column=${column} table="models"
    value=${value} ...${rest} />`;
  const list = (values) => (values ?? []).map(figure).join(", ");
  return html`<dl class="figures facts">
    ${fact("Checkpoint", "model_id", model.model_id)}
    ${fact("Fingerprint of the weights", "fingerprint", html`<code class="hash">${model.fingerprint}</code>`)}
    ${fact("Done to the weights", "notes", model.notes?.length > 0 ? html`<ul>${model.notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul>` : null)}
    ${fact("Licence", "licence", model.licence)}
    ${fact("Parameters", "parameters", count(model.parameters))}
    ${fact("Input", "input_height", `${model.input_height} × ${model.input_width}`, { unit: "pixel" })}
    ${fact("Preprocessing", "mean", `mean ${list(model.mean)}; std ${list(model.std)}; ${model.interpolation}`)}
    ${fact("Representation", "representation_dim", count(model.representation_dim), { unit: "numbers" })}
    ${fact("Recipe of the pictures", "recipe", model.recipe && html`${model.recipe} <code>${model.recipe_hash}</code>`)}
    ${fact("Seed", "seed", written(model.seed))}
    ${fact("Probe set", "probe_set", model.probe_set && html`${model.probe_name} <code>${model.probe_set}</code>`)}
  </dl>
  ${model.recipe_json && html`<details><summary>All settings of the recipe</summary><pre tabindex="0"><code>${pretty(model.recipe_json)}</code></pre></details>`}`;
}

/** What is told of each stage; what all share is said once. */
const COLUMNS = [
  { name: "Precision", of: ({ precision }) => precision || null },
  { name: "Software", of: ({ software }) => versions(software) || null, once: true },
  { name: "Code", of: ({ code_version }) => code_version || null, once: true },
  { name: "Date", of: ({ started }) => (started ? day(started) : null) },
  { name: "Settings", of: ({ settings }) => settings && html`<code>${settings}</code>` },
];

/** What each stage ran with; older atlases say it of the model as a whole, and not when. */
function Made({ model }) {
  const stages = stagesOf(model);
  if (stages.length === 0) return html`<p class="note">This atlas does not record what its stages ran with.</p>`;
  const shared = COLUMNS.filter(({ of, once }) => once && stages.length > 1 && of(stages[0]) !== null && stages.every((one) => of(one) === of(stages[0])));
  const unknown = COLUMNS.filter(({ of }) => stages.every((one) => of(one) === null));
  const columns = COLUMNS.filter((column) => !shared.includes(column) && !unknown.includes(column));
  return html`${shared.length > 0 && html`<p class="note">All stages: ${shared.map(({ name, of }) => `${name.toLowerCase()} ${of(stages[0])}`).join("; ")}.</p>`}
    <div class="scroll" tabindex="0" role="group" aria-label="Stages"><table class="made"><thead><tr>${["Stage", ...columns.map(({ name }) => name)].map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
      <tbody>${stages.map((one) => html`<tr key=${one.stage}><th scope="row">${one.stage}</th>${columns.map(({ name, of }) => html`<td key=${name}>${of(one) ?? "–"}</td>`)}</tr>`)}</tbody></table></div>
    <p class="note"><${Explained} name="stages" column="stages" table="models">A dash: not recorded; for the precision also where each worker chose for its device (<code>neurons.precision</code>).<//>
      ${unknown.length > 0 && ` Not recorded of any stage: ${unknown.map(({ name }) => name.toLowerCase()).join(", ")}.`}</p>
    ${stages.some(({ facts }) => facts) && html`<details><summary>What decided each result, beside the weights</summary>
      ${stages.filter(({ facts }) => facts).map(({ stage, facts }) => html`<h3 key=${stage}>${stage}</h3><pre tabindex="0"><code>${pretty(facts)}</code></pre>`)}</details>`}`;
}
