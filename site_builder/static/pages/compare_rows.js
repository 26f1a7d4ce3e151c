// The rows of a comparison: a column a neuron or head, the same figure of each beside each other.
import { html } from "../vendor/htm-preact.js";
import { figure, fine, percent, points, spread } from "../format.js";
import { useKeys } from "../keys.js";
import { nextOverlay, OVERLAYS } from "../maps.js";
import { Choice, Explained, usePreference } from "../parts.js";
import { addressOf, headAddressOf, link } from "../route.js";
import { ExampleTile, NeuronTile, SignedTile } from "../tiles.js";
import { telling } from "../trust.js";
import { headTelling } from "./head_words.js";

const IMAGES = 6; // of each column
const SHARED = 8; // images that two or more columns keep
const has = (value) => value !== null && value !== undefined;

/** Figures by kind: column, name, how it is written. */
const FIGURES = {
  mlp: [
    ["label_auroc", "held-out AUROC", figure], ["label_z", "z of the label", figure], ["fires_on", "fires on", percent], ["natural_kept", "kept when changed a little", (value) => percent(Math.max(0, value))],
    ["ratio_to_best", "picture against the best image", (value) => `${figure(value)} ×`], ["activation", "activation of the picture", figure], ["clarity", "clarity", figure],
    ["polysemanticity", "polysemanticity", figure], ["ablation_effect", "effect of ablation, logit", (value, row) => `${figure(value)} ± ${spread(row.ablation_se)}`],
  ],
  head: [
    ["variance_share", "share of variance", fine], ["norm_share", "length", fine], ["ablation_effect", "ablation: accuracy lost", (value, row) => `${points(value)} ± ${spread(100 * (row.ablation_se ?? 0))}`],
    ["ablation_change", "ablation: change", figure], ["dimensions", "dimensions", figure], ["texts_explain", "explained by its texts", fine],
  ],
};
const TABLE = { mlp: "neurons", head: "heads" };

/** @param {{ones: import("./compare.js").One[], remove: (address: string) => void}} props */
export function Rows({ ones, remove }) {
  const [overlay, setOverlay] = usePreference("overlay", "spotlight");
  const [scale, setScale] = usePreference("compare-scale", "one");
  useKeys({ h: () => setOverlay(nextOverlay) }, []);
  const neurons = ones.filter(({ kind }) => kind === "mlp");
  const fullOf = (one) => Math.max(...one.examples.map(({ high }) => high), 0);
  const most = Math.max(...neurons.map(fullOf), 0);
  const full = (one) => (scale === "one" ? most : fullOf(one));
  const shared = sharedImages(neurons);
  const row = (key, name, cell) => html`<tr key=${key}><th scope="row">${name}</th>${ones.map((one) => html`<td key=${one.address}>${one.error ? "" : cell(one)}</td>`)}</tr>`;
  const tile = (one, example) => html`<${ExampleTile} key=${example.image} example=${example} overlay=${overlay} full=${full(one)} />`;
  return html`<div class="sortbar"><div><span>Overlay <kbd>h</kbd></span><${Choice} name="Overlay" value=${overlay} options=${OVERLAYS} onChange=${setOverlay} /></div>
      ${neurons.length > 1 && html`<div><span>Heat scale</span><${Choice} name="Heat scale" value=${scale} options=${[["one", "one for all"], ["own", "each its own"]]} onChange=${setScale} /></div>`}</div>
    <div class="scroll" tabindex="0" role="group" aria-label="Comparison"><table class="compare-table">
      <thead><tr><td></td>${ones.map((one) => html`<th scope="col" key=${one.address}><${Name} one=${one} remove=${remove} /></th>`)}</tr></thead>
      <tbody>
        ${row("picture", "picture, or texts", (one) => (one.kind === "head" ? html`<ol>${(one.texts ?? []).slice(0, IMAGES).map(({ text, explained }) => html`<li key=${text}>${text} <span class="note">${fine(explained)}</span></li>`)}</ol>`
          : html`<${NeuronTile} slug=${one.slug} layer=${one.layer} unit=${one.unit} bare />`))}
        ${row("tells", "in one sentence", (one) => (one.kind === "head" ? headTelling(one.row, one.texts) : telling(one.row, one.examples.length > 0)))}
        ${row("images", "its strongest images", (one) => html`<div class="examples">${strongest(one).map((example) => (one.kind === "head"
          ? html`<${SignedTile} key=${example.image} example=${example} overlay=${overlay === "off" ? "off" : "map"} full=${Math.max(...strongest(one).map((other) => other.scale), 1e-12)} />` : tile(one, example)))}</div>`)}
        ${shared.map((image, at) => row(`image ${image}`, `same image ${at + 1}`, (one) => {
          const example = one.kind === "mlp" && one.examples.find((own) => `${own.probe} ${own.image}` === image);
          return example ? html`<div class="examples one">${tile(one, example)}</div>` : html`<span class="note">not kept</span>`;
        }))}
        ${neurons.length > 1 && row("pairs", html`<${Explained} name="correlation" column="correlation" table="neuron_matches" />`, (one) => html`<${Pairs} one=${one} ones=${ones} />`)}
        ${Object.keys(FIGURES).flatMap((kind) => FIGURES[kind].filter(([column]) => ones.some((one) => one.kind === kind && has(one.row?.[column])))
          .map(([column, name, write]) => row(`${kind} ${column}`, html`<${Explained} name=${name} column=${column} table=${TABLE[kind]} />`,
            (one) => (one.kind !== kind ? "" : has(one.row[column]) ? html`<b>${write(one.row[column], one.row)}</b>` : "–"))))}
      </tbody></table></div>
    <p class="note">${neurons.length > 1 && html`${scale === "one" ? `Heat: one scale for all, from 0, clear, to ${figure(most)}, yellow.` : "Heat: each neuron on its own scale, from 0 to its strongest patch."}
      ${shared.length > 0 ? ` ${shared.length === 1 ? "One image is" : `${shared.length} images are`} kept for more than one of these neurons.` : " No probe image is kept for two of these neurons: each keeps its strongest and a few near lower quantiles."} `}
      ${ones.some(({ kind }) => kind === "head") && "Maps of heads are red towards the upper end of their first axis, blue away from it, each head on its own scale."}</p>`;
}

/** What a column is, with a link, and a button that takes it out. */
function Name({ one, remove }) {
  const { kind, slug, layer, unit, row, address, error } = one;
  const href = kind === "head" ? link.head(slug, layer, unit) : link.neuron(slug, layer, unit);
  return html`<a href=${href}>${row?.label ? html`<span class="label-small">${row.label}</span>` : `${kind === "head" ? "Head" : "Unit"} ${unit}`}</a>
    <span class="note">${kind === "head" ? headAddressOf(slug, layer, unit) : addressOf(slug, layer, unit)}</span>
    ${error && html`<span class="note" role="alert">${error.message}</span>`}
    <button class="plain" type="button" aria-label=${`Take out ${address}`} onClick=${() => remove(address)}>Take out</button>`;
}

/** The images of a column: of a neuron its strongest, of a head those at the upper end of its first axis. */
const strongest = (one) => one.examples.filter((example) => (one.kind === "head" ? example.direction === "axis 0 high" : example.kind === "top")).slice(0, IMAGES);

/** Images that two or more neurons keep, those of most neurons first, then the most exciting. @returns {string[]} */
function sharedImages(neurons) {
  /** @type {Map<string, number[]>} */
  const found = new Map();
  for (const { examples } of neurons) {
    const best = Math.max(...examples.map((one) => one.activation), 1e-12);
    const own = new Map(examples.map((one) => [`${one.probe} ${one.image}`, one.activation / best]));
    for (const [image, share] of own) found.set(image, [...(found.get(image) ?? []), share]);
  }
  const sum = (shares) => shares.reduce((all, share) => all + share, 0);
  return [...found].filter(([, shares]) => shares.length > 1).sort((a, b) => b[1].length - a[1].length || sum(b[1]) - sum(a[1]) || (a[0] < b[0] ? -1 : 1))
    .slice(0, SHARED).map(([image]) => image);
}

/** Correlations with the other columns, as far as the atlas keeps them: those of best partners. */
function Pairs({ one, ones }) {
  if (one.kind === "head") return "";
  const known = ones.flatMap((other, at) => {
    const pair = pairOf(one, other) ?? pairOf(other, one);
    return pair && other !== one ? [html`<li key=${other.address}>with ${at + 1}: <b>${figure(pair.correlation)}</b> <span class="note">chance ${figure(pair.threshold ?? pair.null)}</span></li>`] : [];
  });
  return known.length > 0 ? html`<ul>${known}</ul>` : html`<span class="note">kept for best partners alone</span>`;
}

const pairOf = (one, other) => one.matches.find(({ slug, layer, partner }) => slug === other.slug && layer === other.layer && partner === other.unit && other.kind === "mlp");
