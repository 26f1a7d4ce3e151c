// Taking a neuron along: Python, citation; and everything needed to make it again.
import { html } from "../vendor/htm-preact.js";
import { Curve } from "../charts.js";
import { site as atlas } from "../data.js";
import { pretty, stagesOf, versions, written } from "../format.js";
import { Figure, Snippet } from "../parts.js";
import { addressOf, link } from "../route.js";
import { Runs } from "./runs.js";
import { TakeAlong } from "./use.js";

const METHOD = `@article{ghiasi2022vision,
  title   = {What do Vision Transformers Learn? A Visual Exploration},
  author  = {Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and Reich, Steven and Shu, Manli and
             Goldblum, Micah and Wilson, Andrew Gordon and Goldstein, Tom},
  journal = {arXiv preprint arXiv:2212.06727},
  year    = {2022}
}`;

/** Python that reads this one row: only its layer's shard is opened, only its pages are read. */
export function pythonFor(shard, unit) {
  const root = atlas.dataset === "" ? "path/to/atlas" : atlas.dataset;
  return `from datasets import load_dataset

atlas = ${JSON.stringify(root)}${atlas.dataset === "" ? "  # the folder of this atlas, or its hf:// address" : ""}
shard = f"{atlas}/${shard}"
row = load_dataset("parquet", data_files=shard, split="train", filters=[("unit", "==", ${unit})])[0]
row["image"], row["activation"], row["robust_mean"]`;
}

export function UseThis({ slug, layer, unit, row, model }) {
  const address = addressOf(slug, layer, unit);
  const citation = `${address}, ${atlas.title}, schema ${atlas.schema}. Model ${model.model.model_id}, weights SHA-256 ` +
    `${model.model.fingerprint}. ${row.recipe ? `Recipe ${row.recipe} (${row.recipe_hash}), seed ${row.seed}. ` : ""}${location.href}`;
  return html`<${Snippet} title="This row in Python" text=${pythonFor(row.layer_pictures, unit)} />
    <${Snippet} title="Cite this neuron" text=${citation} wrapped />
    <${Snippet} title="Cite the method" text=${METHOD} />
    <${TakeAlong} address=${address} label=${row.label} model=${model.model} row=${row} embed=${link.embed(slug, layer, unit)} />`;
}

export function HowMade({ row, model, site }) {
  const owner = model.model;
  return html`<dl class="figures facts">
      <${Figure} name="Recipe" column="recipe" value=${row.recipe} compare=${html`settings <code>${row.recipe_hash}</code>`} />
      <${Figure} name="Seed" column="seed" value=${written(row.seed)} compare="with recipe and address it gives all random numbers" />
      <${Figure} name="Precision" column="precision" value=${row.precision} />
      <${Figure} name="Start" column="start" value=${row.start} />
      <${Figure} name="Module" table="sites" column="path" value=${html`<code>${site.path}</code>`} compare=${`${site.activation_function}, depth ${site.depth?.toFixed(2)}`} />
      <${Figure} name="Weights" table="models" column="fingerprint" value=${html`<code class="hash">${owner.fingerprint}</code>`} compare=${owner.model_id} />
      <${Figure} name="Licence of the weights" table="models" column="licence" value=${owner.licence} />
      <${Figure} name="Versions" table="models" column="stages" value=${versions(stagesOf(owner).find(({ stage }) => stage === "visualize")?.software) || null} compare="that drew the picture" />
    </dl>
    <div class="curves">
      <${Curve} title="Activation, step by step" points=${row.loss_curve.map(([step, , activation]) => [step, activation])} />
      <${Curve} title="Objective, step by step" points=${row.loss_curve.map(([step, objective]) => [step, objective])} />
    </div>
    ${owner.recipe_json && html`<details><summary>All settings of the recipe</summary><pre tabindex="0"><code>${pretty(owner.recipe_json)}</code></pre></details>`}
    <details><summary>Runs that worked on this model</summary><${Runs} runs=${model.runs} /></details>`;
}
