// Up to six neurons and heads side by side: rows aligned, the same images under each other's maps. The address is the list.
import { html, useState } from "../vendor/htm-preact.js";
import { fetchNeuron, findModel, site } from "../data.js";
import { fetchExamples, fetchMatches } from "../evidence.js";
import { fetchHead } from "../heads.js";
import { Copy, Failure, Trail, useLoaded, useTitle } from "../parts.js";
import { link, readJump } from "../route.js";
import { compareLink, MOST, setTray, useTray } from "../tray.js";
import { Rows } from "./compare_rows.js";

/** @typedef {{address: string, kind: "mlp"|"head", slug: string, layer: number, unit: number, error?: Error, row?: any, texts?: any[], examples: any[], matches: any[]}} One */

const FORM = /^([a-z0-9-]+)\/(mlp|head)\/(\d+)\/(\d+)$/;

export function ComparePage({ route }) {
  const asked = (route.query.get("u") ?? "").split(",").map((one) => one.trim()).filter((one) => one !== "");
  const title = route.query.get("title") ?? "";
  const list = [...new Set(asked.filter((one) => FORM.test(one)))].slice(0, MOST);
  const left = asked.filter((one) => !FORM.test(one));
  useTitle(title === "" ? "Compare" : title);
  const { value, error, stale } = useLoaded(() => Promise.all(list.map(readOne)), [list.join()]);
  const go = (/** @type {string[]} */ next, /** @type {string} */ name = title) => location.replace(compareLink(next, name));
  return html`<${Trail} trail=${[["Models", link.home()], ["Compare", null]]} />
    <div class="head"><div><h1>${title === "" ? "Compare" : title}</h1>
      <p class="lede">${list.length === 0 ? "Neurons and attention heads side by side." : html`The address of this page is the list. <${Copy} text=${location.href}>Copy link<//> <${Keep} list=${list} />`}</p></div></div>
    <${Forms} list=${list} title=${title} go=${go} />
    ${left.length > 0 && html`<p class="failure" role="alert">No address: ${left.map((one) => `“${one}”`).join(", ")}. Expected model/mlp/layer/unit, or model/head/layer/head.</p>`}
    ${new Set(asked).size - left.length > MOST && html`<p class="note">The first ${MOST} of ${new Set(asked).size} are shown: more do not stand side by side.</p>`}
    ${error && html`<${Failure} error=${error} />`}
    ${list.length === 0 ? html`<p>Add one above, or by “Add to compare” on the page of a neuron or a head.</p>`
      : value && html`<div class=${stale ? "stale" : ""} aria-busy=${stale}><${Rows} ones=${value} remove=${(address) => go(list.filter((one) => one !== address))} /></div>`}`;
}

/** Everything a column shows; what cannot be read stands in its column. @returns {Promise<One>} */
async function readOne(/** @type {string} */ address) {
  const [, slug, kind, layer, unit] = /** @type {any} */ (FORM.exec(address));
  const place = { address, kind, slug, layer: Number(layer), unit: Number(unit), examples: [], matches: [] };
  try {
    findModel(slug);
    if (kind === "head") return { ...place, ...(await fetchHead(slug, place.layer, place.unit)) };
    const of = /** @type {[string, number, number]} */ ([slug, place.layer, place.unit]);
    const [row, examples, matches] = await Promise.all([fetchNeuron(...of), fetchExamples(...of), fetchMatches(...of)]);
    return { ...place, row, examples: examples ?? [], matches: matches ?? [] };
  } catch (error) {
    return { ...place, error: /** @type {Error} */ (error) };
  }
}

/** The list of this address as the reader's own, which buttons add to. */
function Keep({ list }) {
  const own = useTray();
  return own.join() === list.join() ? null : html`<button class="plain" type="button" onClick=${() => setTray(list)}>Add to this list from now on</button>`;
}

function Forms({ list, title, go }) {
  const [text, setText] = useState("");
  const [problem, setProblem] = useState("");
  const add = (event) => {
    event.preventDefault();
    const found = readJump(text, site.models, { page: "compare", query: new URLSearchParams(), hash: "" });
    const whole = found.models.length === 1 && found.layer !== undefined && found.unit !== undefined;
    setProblem(whole ? "" : "Expected an address such as deit-tiny/mlp/3/41, or a link to a neuron or a head.");
    if (!whole) return;
    setText("");
    go([...list, `${found.models[0].slug}/${found.heads ? "head" : "mlp"}/${found.layer}/${found.unit}`]);
  };
  return html`<div class="sortbar">
      ${list.length < MOST && html`<form onSubmit=${add}><div><label for="add-one">Add</label><input id="add-one" value=${text} placeholder="model/mlp/3/41" autocapitalize="none" spellcheck=${false}
        onInput=${(event) => setText(event.target.value)} /></div></form>`}
      ${list.length > 0 && html`<form onSubmit=${(event) => event.preventDefault()}><div><label for="list-title">Title</label><input id="list-title" value=${title} maxlength="80"
        onChange=${(event) => go(list, event.target.value.trim())} /></div></form>`}
    </div>${problem !== "" && html`<p class="note" role="alert">${problem}</p>`}`;
}
