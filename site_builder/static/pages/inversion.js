// One class or text as a picture that a model takes for it, or a head by a direction, with what says how far to trust it, and the same in other models.
import { html } from "../vendor/htm-preact.js";
import { Bar } from "../charts.js";
import { findModel, site } from "../data.js";
import { figure, percent, plural, signed } from "../format.js";
import { fetchInversion, fetchInversions, firsts, pageOf } from "../inversions.js";
import { useKeys } from "../keys.js";
import { Explained, Failure, Figure, Snippet, Trail, useLoaded, useTitle } from "../parts.js";
import { link } from "../route.js";
import { CopyLink } from "../share.js";
import { NeuronTile } from "../tiles.js";
import { InversionTile } from "./inversions.js";

const GRID = { display: "grid", gridTemplateColumns: "repeat(auto-fill, minmax(104px, 1fr))", gap: "12px 8px", listStyle: "none", margin: "12px 0", padding: 0 };

export function InversionPage({ route }) {
  const { slug, kind, id } = route;
  const { value, error, stale } = useLoaded(async () => {
    const all = await fetchInversions(slug);
    const own = all.filter((one) => one.id === `${kind}/${id}`);
    const by = own.filter(({ recipe }) => recipe === route.query.get("by"));
    const listed = by.find(({ variant }) => String(variant) === route.query.get("v")) ?? by[0] ?? own[0];
    return listed && { all, own, listed, said: await fetchInversion(slug, listed.at) };
  }, [slug, kind, id, route.query.get("by"), route.query.get("v")]);
  const listed = stale ? undefined : value?.listed;
  useTitle(listed ? `${listed.target}, ${slug}` : `${slug}, inversion`);
  const step = (by) => {
    const same = firsts(value?.all.filter(({ recipe }) => recipe === listed?.recipe) ?? []);
    const next = same[same.findIndex((one) => one.id === listed?.id) + by];
    return next && pageOf(slug, next.id, { by: next.recipe });
  };
  const go = (by) => () => step(by) && (location.hash = step(by));
  useKeys({ ArrowRight: go(1), ArrowLeft: go(-1), u: () => (location.hash = link.inversions(slug)) }, [slug, listed?.at]);
  if (error) return html`<h1>${slug}</h1><${Failure} error=${error}><p><a href=${link.home()}>All models of this atlas</a></p><//>`;
  if (stale && value === undefined) return html`<p class="note">Reading ${slug} …</p>`;
  if (!value) return html`<h1>${slug}</h1><p>This atlas has no inversion of <code>${kind}/${id}</code>. <a href=${link.inversions(slug)}>Those it has</a></p>`;
  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], ["Inversions", link.inversions(slug)], [value.listed.target, null]]} />
    <h1>${value.listed.target} <span class="of">as ${slug} sees it</span></h1>
    <p class="lede">${sentence(value.said)}</p>
    <${Shown} slug=${slug} said=${value.said} />
    <nav class="note"><${CopyLink} route=${route} /> ${step(-1) && html`<a href=${step(-1)}>Before</a> `}${step(1) && html`<a href=${step(1)}>Next</a>`}</nav>
    <${Read} said=${value.said} />
    <${Inside} slug=${slug} links=${value.said.links ?? {}} />
    <${Others} slug=${slug} own=${value.own} shown=${value.listed} total=${value.all.length} />
    ${value.listed.kind !== "head" && html`<${Elsewhere} slug=${slug} target=${value.listed.target} />`}
    <section aria-labelledby="made"><h2 id="made">How it was made</h2><${Made} slug=${slug} said=${value.said} /></section>`;
}

/** A head by one of its directions. */
export const HeadpicturePage = ({ route }) => html`<${InversionPage} route=${{ ...route, kind: "head", id: `${route.place}/${route.direction}` }} />`;

/** Whether the model's own answer should be believed, in a sentence. */
function sentence(said) {
  if (said.status === "failed") return `There is no picture: ${said.status_reason}.`;
  if (said.kind === "text") return `The model gives ${said.target.startsWith("image: ") ? "this picture and the image" : "picture and words"} a cosine of ${figure(said.score)}, and ${figure(said.natural_score)} when the picture is changed a little.`;
  if (said.kind === "head") return html`For this picture <${HeadLink} address=${said.head} /> adds ${figure(said.deviations)} standard deviations more along the direction than for the mean
    probe image, and ${figure(said.natural_deviations)} when the picture is changed a little. Other models cannot read it: no head of theirs is this one.`;
  const holds = said.natural_right >= 0.9 ? "and goes on doing so" : said.natural_right >= 0.5 ? "and mostly goes on doing so" : "but mostly no longer";
  return said.rank === 1 ? `The model takes this picture for the class, ${holds} when the picture is changed a little (${percent(said.natural_right)} of changes).`
    : `The model does not take this picture for the class: it comes ${ordinal(said.rank)} of ${said.rivals}.`;
}

function HeadLink({ address }) {
  const [slug, , layer, head] = address.split("/");
  return html`<a href=${link.head(slug, layer, head)}>head ${head} of attention layer ${layer}</a>`;
}

const ordinal = (rank) => `${rank}${["th", "st", "nd", "rd"][rank % 100 > 10 && rank % 100 < 14 ? 0 : rank % 10] ?? "th"}`;

function Shown({ slug, said }) {
  const { model_id: id } = findModel(slug);
  const shown = (name, column, value, rest = {}) => html`<${Figure} key=${column} name=${name} column=${column} table="inversions" value=${value ?? null} ...${rest} />`;
  const box = { width: "min(100%, 320px)", background: "var(--sunk)" };
  return html`<div style=${{ display: "flex", flexWrap: "wrap", gap: "24px", alignItems: "flex-start", marginTop: "16px" }}>
    ${said.url && html`<img src=${said.url} style=${{ ...box, imageRendering: "auto" }} alt=${`${id}: ${said.target}`} />`}
    <dl class="figures" style=${{ flex: "1 1 280px" }}>
      ${said.kind === "head" && html`${shown("Deviations", "deviations", said.deviations)}${shown("Deviations when changed", "natural_deviations", said.natural_deviations)}${shown("Projection", "projection", said.projection)}`}
      ${shown({ text: "Cosine with the text", head: "Cosine with the direction" }[said.kind] ?? "Probability", "score", said.score)}
      ${said.kind === "class" && shown("Place among its rivals", "rank", said.rank, { compare: `of ${said.rivals}; a guess comes first once in ${said.rivals}` })}
      ${said.kind === "class" && shown("Still first when changed", "natural_right", said.natural_right === undefined ? null : percent(said.natural_right))}
      ${shown(said.kind === "class" ? "Probability when changed" : "Cosine when changed", "natural_score", said.natural_score)}
      ${(said.natural_kinds ?? []).length > 0 && html`<div class="figure"><dt>By kind of change</dt><dd class="compare">${said.natural_kinds.map(({ kind, score, right }) =>
        `${kind} ${figure(score)}${right === null || right === undefined ? "" : ` (first in ${percent(right)})`}`).join(", ")}</dd></div>`}</dl></div>`;
}

/** What models that did not make the picture say of it. */
function Read({ said }) {
  const { readings = [] } = said;
  if (readings.length === 0) return null;
  const first = readings.filter(({ rank }) => rank === 1).length;
  const address = said.address.split("/").slice(1);
  const best = [...readings].sort((a, b) => (b.score ?? -2) - (a.score ?? -2));
  return html`<section aria-labelledby="read"><h2 id="read">What other models make of it</h2>
    <p>${said.kind === "class" ? html`${first} of ${plural(readings.length, "model")} that did not make it take${readings.length === 1 ? "s" : ""} it for the class; a guess is right once in ${said.rivals}.
      A picture that only its own model reads shows what moves that model, not what the class looks like.` : "Models that did not make it, by their own cosine with the text."}</p>
    <ol class="ranked">${best.map((one) => html`<li key=${one.reader}><a class="where" href=${link.inversion(one.reader, ...address)}>${one.reader}</a>
      <span class="line"><${Bar} value=${Math.max(0, one.score ?? 0)} /></span><b class="value">${figure(one.score)}</b>
      <span class="said note">${one.rank ? (one.rank === 1 ? "comes first" : `comes ${ordinal(one.rank)} of ${one.rivals}`) : ""}</span></li>`)}</ol></section>`;
}

/** The neurons of this model that raise the class most, and the heads at an end of whose first axis it lies. */
function Inside({ slug, links: { neurons = [], heads = [] } }) {
  return html`${neurons.length > 0 && html`<section aria-labelledby="writers"><h2 id="writers">Neurons that write to it</h2>
      <div class="counterparts">${neurons.map(([layer, unit, logit]) => html`<${NeuronTile} key=${`${layer}/${unit}`} slug=${slug} layer=${layer} unit=${unit} short>
        <span class="note">${signed(logit)}</span><//>`)}</div>
      <p class="note"><${Explained} name="Writes to" column="writes_to">What a unit of activation adds to the class's logit<//>, the most first; how active each neuron is on real images is on its page.</p></section>`}
    ${heads.length > 0 && html`<section aria-labelledby="carriers"><h2 id="carriers">Heads that carry it</h2>
      <ol class="ranked">${heads.map(([layer, head, mean]) => html`<li key=${`${layer}/${head}`}><a class="where" href=${link.head(slug, layer, head)}>layer ${layer}, head ${head}</a>
        <span class="line"><${Bar} value=${Math.abs(mean / heads[0][2])} /></span><b class="value">${signed(mean)}</b><span class="said note"></span></li>`)}</ol>
      <p class="note">Where on the first axis of each head the <${Explained} name="classes" column="axis_classes" table="heads">images of this class<//> lie on the mean; the sign says at which end.</p></section>`}`;
}

/** The other pictures of the target: the recipe's variants, and those of other recipes. */
function Others({ slug, own, shown, total }) {
  const variants = own.filter(({ recipe }) => recipe === shown.recipe);
  const recipes = firsts(own);
  const row = (some, said) => html`<ul style=${GRID}>${some.map((one) => html`<li key=${one.at}>
    <${InversionTile} slug=${slug} one=${one} total=${total} /><span class="note">${said(one)}${one.at === shown.at ? ", above" : ""}</span></li>`)}</ul>`;
  return html`${variants.length > 1 && html`<section aria-labelledby="variants"><h2 id="variants">${variants.length} pictures of it</h2>
      <p class="note">The recipe ${shown.recipe} makes several and keeps them apart, as there may be more than one thing that the model asks for. ${variants.some((one) => one.read)
        ? "The one that most other models read comes first: of several, the best is read better than one that was made alone would be." : "The one that holds best when it is changed comes first."}</p>
      ${row(variants, ({ variant }) => `variant ${variant}`)}</section>`}
    ${recipes.length > 1 && html`<section aria-labelledby="recipes"><h2 id="recipes">By other recipes</h2>${row(recipes, ({ recipe }) => recipe)}</section>`}`;
}

/** The same class, or the same words, in other models of this atlas. */
function Elsewhere({ slug, target }) {
  const others = site.models.filter((entry) => entry.inversions && entry.slug !== slug).map((entry) => entry.slug);
  const { value, error, stale } = useLoaded(() => Promise.all(others.map(async (other) => {
    const all = await fetchInversions(other);
    const one = all.find((each) => each.target.toLowerCase() === target.toLowerCase());
    return one ? [{ slug: other, one, total: all.length }] : [];
  })), [slug, target]);
  if (error) return html`<${Failure} error=${error} />`;
  const found = stale || value === undefined ? [] : value.flat();
  if (found.length === 0) return null;
  return html`<section aria-labelledby="elsewhere"><h2 id="elsewhere">The same in ${plural(found.length, "other model")}</h2>
    <ul style=${GRID}>${found.map(({ slug: other, one, total }) => html`<li key=${other}><${InversionTile} slug=${other} one=${one} total=${total} named /></li>`)}</ul></section>`;
}

function Made({ slug, said }) {
  const { model_id: id } = findModel(slug);
  const shown = (name, column, value) => html`<${Figure} key=${column} name=${name} column=${column} table="inversions" value=${value ?? null} />`;
  const what = { class: `--classes ${said.index}`, head: `--probe IMAGES --stages decompose --head-pictures ${said.head?.split("/").slice(2).join(".")}` }[said.kind] ?? "--prompts prompts.txt";
  return html`<dl class="figures">${shown("Address", "address", html`<code>${said.address}</code>`)}${shown("Recipe", "recipe", said.recipe)}
      ${shown("Passes of an image", "image_steps", said.image_steps)}${shown("Arithmetic", "precision", said.precision)}
      ${shown("Seed", "seed", String(said.seed))}${shown("Recipe's settings", "recipe_hash", html`<code class="hash">${said.recipe_hash}</code>`)}</dl>
    <${Snippet} title="The same again, in the shell" text=${`neuron-atlas run --model ${id} ${what}${said.recipe === "fast" ? "" : ` --inversions ${said.recipe}`}${said.seed ? ` --seed ${said.seed}` : ""} --out my-atlas`} />
    <p>After Ghiasi, Kazemi et al., <cite>Plug-In Inversion</cite>, arXiv 2201.12961, and for texts Kazemi et al., <cite>What do we learn from inverting CLIP models?</cite>, arXiv 2403.02580.</p>`;
}
