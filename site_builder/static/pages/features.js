// Features across models: which heads and FFNs carry colour, shape, texture.
import { html, useState } from "../vendor/htm-preact.js";
import { ScoreStrip, SignedBar } from "../charts.js";
import { site } from "../data.js";
import { count, figure, fine, hundredth, plural, points } from "../format.js";
import { fetchFeature, figuresWords, findFeature, has } from "../heads.js";
import { useKeys } from "../keys.js";
import { Explained, Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";
import { isLayerHere } from "../tiles.js";

const ROWS = 30; // of the list, until more are asked for
const KINDS = [["all", "heads and FFNs"], ["head", "heads"], ["ffn", "FFNs"]];
const SORTS = { score: "score", merit: "score × selectivity", ablation_margin: "ablation: margin", ablation_effect: "ablation: accuracy", variance_share: "share of variance", ablation_flips: "images flipped" };

export function FeaturesPage() {
  useTitle("Features");
  const list = site.features?.list ?? [];
  return html`<${Trail} trail=${[["Models", link.home()], ["Features", null]]} />
    <h1>Features</h1>
    <p class="lede">${list.length === 0 ? "This atlas has scored no features: no stage has compared heads with lists of texts." : html`What attention heads and FFNs matter for, over all models:
      each feature is a group of texts, and a component's score says how far its contribution follows the whole representation along them.`}</p>
    <ol class="feature-list">${list.map((one) => html`<li key=${one.name}><div class="name"><a href=${link.feature(one.name)}>${one.name}</a>
        <span class="note">${plural(one.models, "model")}, ${plural(one.heads, "head")}, ${plural(one.ffns, "FFN")}</span></div>
      <ol class="ranked">${one.best.map(([model, kind, layer, head, score]) => html`<li key=${`${model} ${kind} ${layer} ${head}`}><${Where} model=${model} kind=${kind} layer=${layer} head=${head} />
        <span class="line"><${SignedBar} value=${score} low=${0} high=${1} /></span><b class="value">${hundredth(score)}</b></li>`)}</ol></li>`)}</ol>`;
}

/** A component with its model, as a link where this atlas has a page of it. */
function Where({ model, kind, layer, head }) {
  const { slug } = site.models[model];
  const text = html`<b>${slug}</b> ${kind === "head" ? `layer ${layer}, head ${head}` : `FFN ${layer}`}`;
  if (kind === "head") return html`<a class="where" href=${link.head(slug, layer, head)}>${text}</a>`;
  return isLayerHere(slug, layer) ? html`<a class="where" href=${link.layer(slug, layer)}>${text}</a>` : html`<span class="where">${text}</span>`;
}

export function FeaturePage({ route }) {
  const { feature, query } = route;
  useTitle(`Feature ${feature}`);
  const { value, error, stale } = useLoaded(() => fetchFeature(feature), [feature]);
  const list = site.features?.list ?? [];
  const at = list.findIndex((one) => one.name === feature);
  const open = (to) => list[to] && (location.hash = link.feature(list[to].name));
  useKeys({ u: () => (location.hash = link.features()), ArrowLeft: () => open(at - 1), ArrowRight: () => open(at + 1) }, [feature]);
  const told = stale || !value ? undefined : (value.find((one) => one.name === query.get("set")) ?? value[0]);
  return html`<${Trail} trail=${[["Models", link.home()], ["Features", link.features()], [feature, null]]} />
    <div class="head"><div><h1>Feature: ${feature}</h1><p class="lede">${told ? summary(feature) : "\u00a0"}</p></div>
      ${at >= 0 && html`<nav class="steps" aria-label="Features"><${Step} entry=${list[at - 1]} sign="←" /><${Step} entry=${list[at + 1]} sign="→" /></nav>`}</div>
    ${error && html`<${Failure} error=${error}><p><a href=${link.features()}>All features</a></p><//>`}
    ${told && html`<${Asked} key=${`${feature} ${told.name}`} feature=${feature} sets=${value} told=${told} query=${query} />`}`;
}

const Step = ({ entry, sign }) => (entry ? html`<a href=${link.feature(entry.name)}>${sign} ${entry.name}</a>` : html`<span aria-disabled="true">${sign} –</span>`);

const summary = (feature) => {
  const { entry } = findFeature(feature);
  return `${plural(entry.heads, "head")} and ${plural(entry.ffns, "FFN")} of ${plural(entry.models, "model")}`;
};

/** The carriers that the address asks for: of a model, of a kind, in an order. */
function Asked({ feature, sets, told, query }) {
  const [shown, setShown] = useState(ROWS);
  const read = (name, known) => known.find((one) => one === query.get(name)) ?? known[0];
  const slugs = told.models.map(({ model }) => site.models[model].slug);
  const asked = { model: read("model", ["", ...slugs]), kind: read("kind", KINDS.map(([key]) => key)), sort: read("sort", Object.keys(SORTS)), set: told.name };
  const set = (next) => location.replace(link.feature(feature, new URLSearchParams(Object.entries({ ...asked, ...next })
    .filter(([name, value]) => !["", "all", "score"].includes(value) && (name !== "set" || value !== sets[0].name))).toString()));
  const all = told.rows.map((row) => ({ ...row, merit: has(row.selectivity) ? row.score * row.selectivity : null }));
  const sorts = Object.keys(SORTS).filter((key) => all.some((row) => has(row[key])));
  const by = sorts.includes(asked.sort) ? asked.sort : "score";
  const rows = all.filter((row) => (asked.model === "" || site.models[row.unit].slug === asked.model) && (asked.kind === "all" || row.kind === asked.kind))
    .filter((row) => has(row[by])).sort((a, b) => b[by] - a[by]);
  const low = Math.min(0, ...rows.map((row) => row[by]));
  const high = by === "score" ? 1 : Math.max(1e-9, ...rows.map((row) => row[by]));
  const choose = (name, label, options) => html`<div><label for=${`by-${name}`}>${label}</label><select id=${`by-${name}`} value=${asked[name]} onChange=${(event) => set({ [name]: event.target.value })}>
    ${options.map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}</select></div>`;
  return html`<section aria-labelledby="models"><h2 id="models">By model</h2><${Models} told=${told} chosen=${asked.model} onChoose=${(model) => set({ model })} /></section>
    <section aria-labelledby="carriers"><h2 id="carriers">What carries it</h2>
      <div class="sortbar">${slugs.length > 1 && choose("model", "Model", [["", "all"], ...slugs.map((slug) => [slug, slug])])}${choose("kind", "Show", KINDS)}
        ${choose("sort", "Order by", sorts.map((key) => [key, SORTS[key]]))}${sets.length > 1 && choose("set", "Texts from", sets.map(({ name }) => [name, name]))}
        <p class="counted" role="status">${count(rows.length)} listed</p></div>
      <ol class="carriers">${rows.slice(0, shown).map((row, place) => html`<${Carrier} key=${`${row.unit} ${row.kind} ${row.layer} ${row.head}`} row=${row} place=${place} by=${by} low=${low} high=${high} />`)}</ol>
      ${rows.length > shown && html`<button class="plain" type="button" onClick=${() => setShown(shown + 5 * ROWS)}>${count(rows.length - shown)} more</button>`}
      <p class="note">Of each model the components with the highest scores, 50 at most. <${Explained} name="Score" column="score" table="head_features" />
        <${Explained} name="Margin" column="ablation_margin" table="head_features" /> <${Explained} name="Accuracy" column="ablation_effect" table="head_features" /> <${Explained} name="Share of variance" column="variance_share" table="head_features" /> <${Explained} name="Selectivity" column="selectivity" table="head_features" />
        <${Explained} name="Images flipped" column="ablation_flips" table="head_features" /> Texts: <code>${told.name}</code></p></section>`;
}

function Carrier({ row, place, by, low, high }) {
  const numbers = [...figuresWords(row), by !== "score" && `score ${hundredth(row.score)}`].filter(Boolean).join(" · ");
  const value = { score: hundredth, merit: hundredth, ablation_margin: (one) => `${figure(one)} σ`, ablation_effect: points, variance_share: fine, ablation_flips: fine }[by](row[by]);
  return html`<li><span class="place">${place + 1}</span><${Where} model=${row.unit} kind=${row.kind} layer=${row.layer} head=${row.head} />
    <span class="line"><${SignedBar} value=${row[by]} low=${low} high=${high} /></span><b class="value">${value}</b>
    <span class="note">${numbers}${row.level !== "direct" && html` · <b>${row.level}</b>`}</span>
    ${row.texts.length > 0 && html`<span class="said">${row.texts.map((text, at) => html`${at > 0 && html`<span class="note"> · </span>`}${text}`)}</span>`}</li>`;
}

/** Of each model all scores on one scale, and how far they agree with ablation. */
function Models({ told, chosen, onChoose }) {
  const low = Math.min(-0.05, ...told.models.flatMap(({ head, ffn }) => [...head, ...ffn]));
  return html`<ol class="of-models">${told.models.map((one) => {
    const { slug } = site.models[one.model];
    return html`<li key=${slug} class=${slug === chosen ? "chosen" : ""}><button class="plain" type="button" aria-pressed=${slug === chosen} onClick=${() => onChoose(slug === chosen ? "" : slug)}>${slug}</button>
      <${ScoreStrip} head=${one.head} ffn=${one.ffn} low=${low} />
      <span class="note">${has(one.ablation_margin) ? html`agrees with ablation: ρ <b>${hundredth(one.ablation_margin)}</b>` : has(one.ablation_flips) ? html`agrees with flips: ρ <b>${hundredth(one.ablation_flips)}</b>` : "too few to tell agreement"}</span></li>`;
  })}</ol>
    <p class="note">A tick is a component, its place the score, 1 at the right end and 0 at the dotted line: heads above, FFNs below. ρ is Spearman's rank correlation, over a model's components, of the score and of what ablation takes from the margin of the right answer (or how
      many images it flips, where no answer is known): near 1, the score tells what ablation would; near 0 it does not.</p>`;
}
