// One attention head: what it adds to the final representation in words, how much that matters, where in images it comes from.
import { html } from "../vendor/htm-preact.js";
import { Contents } from "../contents.js";
import { fetchModel, findModel } from "../data.js";
import { Fold } from "../fold.js";
import { grids } from "../format.js";
import { fetchHead } from "../heads.js";
import { useKeys } from "../keys.js";
import { Copy, Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { headAddressOf, link, parseHash } from "../route.js";
import { CopyLink } from "../share.js";
import { AddToCompare } from "../tray.js";
import { HeadImages } from "./head_images.js";
import { HeadPictures } from "./head_pictures.js";
import { HeadNumbers, Matters, Spectrum } from "./head_numbers.js";
import { CiteHead, HeadFacts } from "./head_use.js";
import { FeaturesSection, HeadLabel, headTelling, HeadTitle, NeuronsRead, Texts } from "./head_words.js";

export function HeadPage({ route }) {
  const { slug, layer, head } = route;
  const { value, error, stale } = useLoaded(async () => {
    const [told, model] = await Promise.all([fetchHead(slug, layer, head), fetchModel(slug)]);
    return { slug, layer, head, ...told, model };
  }, [slug, layer, head]);
  const told = stale || error ? undefined : value;
  useTitle([told?.row.label, headAddressOf(slug, layer, head)].filter(Boolean).join(" · "));
  const ways = waysFrom(slug, layer, head);
  useKeys({
    ArrowLeft: go("previous"), ArrowRight: go("next"), "[": go("earlier"), "]": go("later"),
    u: () => (location.hash = link.heads(slug)),
  }, [slug, layer, head]);
  return html`<${Trail} trail=${[["Models", link.home()], [slug, link.model(slug)], ["Heads", link.heads(slug)], [`Layer ${layer}, head ${head}`, null]]} />
    <div class="head"><div><${HeadTitle} row=${told?.row} slug=${slug} layer=${layer} head=${head} />
      ${!error && html`<p class="tells">${told === undefined ? "\u00a0" : headTelling(told.row, told.texts)}</p>`}
      <p class="lede address"><code>${headAddressOf(slug, layer, head)}</code> <${Copy} text=${headAddressOf(slug, layer, head)}>Copy address<//> <${CopyLink} route=${route} /> <${AddToCompare} address=${headAddressOf(slug, layer, head)} /></p>
      <p class="lede">${error || stale || !value ? "\u00a0" : html`<${Identity} row=${value.row} site=${value.model.attention[layer]} />`}</p></div>
      <${Ways} ways=${ways} /></div>
    ${!error && html`<${Contents} />`}
    ${!error && value && !stale && html`<${HeadLabel} row=${value.row} texts=${value.texts} />`}
    ${error && html`<${Failure} error=${error}><p><a href=${link.home()}>All models of this atlas</a></p><//>`}
    ${!error && value && html`<div class=${stale ? "stale" : ""} aria-busy=${stale}><${Body} ...${value} /></div>`}`;
}

/** Where the head is, and how far it reaches, in one line. */
function Identity({ row, site }) {
  const reach = row.level === "direct" ? "writes to the final representation directly" : "reaches the final representation through later attention only";
  return html`${site && html`<code>${site.path}</code> · ${site.attention_kind} attention · ${grids(site.grids)} tokens · `}${reach}`;
}

function Body({ slug, layer, head, row, all, texts, features, examples, neurons, model }) {
  const place = { slug, layer, head };
  return html`<article class="one-head">
      <div><h2>What it adds, in words</h2><${Texts} row=${row} texts=${texts} />${texts.length === 0 && html`<${Spectrum} row=${row} />`}</div>
      <div class="trust"><h2>How much it matters</h2><${Matters} row=${row} all=${all} />${texts.length > 0 && html`<${Spectrum} row=${row} />`}</div></article>
    <${HeadPictures} slug=${slug} address=${headAddressOf(slug, layer, head)} examples=${examples} />
    <${HeadImages} ...${place} row=${row} texts=${texts} examples=${examples} />
    <${FeaturesSection} row=${row} features=${features} />
    <${NeuronsRead} slug=${slug} neurons=${neurons} />
    <${Fold} id="numbers" name="Numbers" hint="every figure of this head, with what it means"><${HeadNumbers} row=${row} all=${all} /><//>
    <${Fold} id="made" name="How it was made" hint="weights, probe set, alignment, versions, runs"><${HeadFacts} row=${row} model=${model} site=${model.attention[layer]} /><//>
    <section aria-labelledby="use"><h2 id="use">Use this</h2><${CiteHead} ...${place} row=${row} model=${model} /></section>`;
}

/** From where the address is now: keys may come faster than pages are drawn. */
const go = (direction) => () => {
  const { page, slug, layer, head } = parseHash(location.hash);
  const way = page === "head" ? waysFrom(slug, layer, head)[direction] : null;
  if (way) location.hash = way.href;
};

/** Neighbours: heads of this layer, and the same head (or the layer's last) one layer earlier and later. */
function waysFrom(slug, layer, head) {
  let layers;
  try {
    layers = findModel(slug).heads?.layers ?? [];
  } catch {
    return {}; // the failure itself is told below the head
  }
  const beside = (to) => (to < 0 || to >= (layers[layer] ?? 0) ? null : { text: `head ${to}`, href: link.head(slug, layer, to) });
  const across = (step) => {
    let to = layer + step;
    while (layers[to] === 0) to += step;
    return layers[to] ? { text: `layer ${to}`, href: link.head(slug, to, Math.min(head, layers[to] - 1)) } : null;
  };
  return { previous: beside(head - 1), next: beside(head + 1), earlier: across(-1), later: across(1) };
}

function Ways({ ways }) {
  const step = (way, label, text) => (way ? html`<a href=${way.href} aria-label=${`${label}: ${way.text}`}>${text(way.text)}</a>`
    : html`<span aria-disabled="true">${text("–")}</span>`);
  return html`<nav class="steps" aria-label="Neighbours">
    ${step(ways.previous, "Previous head", (text) => `← ${text}`)}${step(ways.next, "Next head", (text) => `${text} →`)}
    ${step(ways.earlier, "Earlier", (text) => `↑ ${text}`)}${step(ways.later, "Later", (text) => `↓ ${text}`)}</nav>`;
}
