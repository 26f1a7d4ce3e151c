// Taking a head along: Python, citation; and what its figures were made with.
import { html } from "../vendor/htm-preact.js";
import { site as atlas } from "../data.js";
import { grids } from "../format.js";
import { Figure, Snippet } from "../parts.js";
import { headAddressOf, link } from "../route.js";
import { Runs } from "./runs.js";
import { TakeAlong } from "./use.js";

const METHODS = `@inproceedings{gandelsman2024interpreting,
  title     = {Interpreting {CLIP}'s Image Representation via Text-Based Decomposition},
  author    = {Gandelsman, Yossi and Efros, Alexei A. and Steinhardt, Jacob},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  note      = {arXiv 2310.05916}
}
@inproceedings{balasubramanian2024decomposing,
  title     = {Decomposing and Interpreting Image Representations via Text in {ViTs} Beyond {CLIP}},
  author    = {Balasubramanian, Sriram and Basu, Samyadeep and Feizi, Soheil},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2024},
  note      = {arXiv 2406.01583}
}`;

/** Python that reads this head's row, and its texts. */
export function pythonForHead(slug, layer, head) {
  const root = atlas.dataset === "" ? "path/to/atlas" : atlas.dataset;
  return `from datasets import load_dataset

atlas = ${JSON.stringify(root)}${atlas.dataset === "" ? "  # the folder of this atlas, or its hf:// address" : ""}
own = [("layer", "==", ${layer}), ("head", "==", ${head})]
shard = f"{atlas}/{{table}}/${slug}/train-00000-of-00001.parquet"
head = load_dataset("parquet", data_files=shard.format(table="heads"), split="train", filters=own)[0]
texts = load_dataset("parquet", data_files=shard.format(table="head_texts"), split="train", filters=own)
head["label"], head["variance_share"], head["ablation_effect"], texts["text"]`;
}

export function CiteHead({ slug, layer, head, row, model }) {
  const citation = `${headAddressOf(slug, layer, head)}, ${atlas.title}, schema ${atlas.schema}. Model ${model.model.model_id}, weights SHA-256 ` +
    `${model.model.fingerprint}. Level: ${row.level}. Probe set ${row.probe_set}. ${location.href}`;
  return html`<${Snippet} title="This head in Python" text=${pythonForHead(slug, layer, head)} />
    <${Snippet} title="Cite this head" text=${citation} wrapped />
    <${Snippet} title="Cite the methods" text=${METHODS} />
    <${TakeAlong} address=${headAddressOf(slug, layer, head)} label=${row.label} model=${model.model} row=${row} embed=${link.embedhead(slug, layer, head)} />`;
}

export function HeadFacts({ row, model, site }) {
  const owner = model.model;
  const said = (text) => (text ? html`<code class="hash">${text}</code>` : null);
  const clip = atlas.models.some(({ slug }) => slug === row.embedder) ? html`<a href=${link.model(row.embedder)}>${row.embedder}</a>` : said(row.embedder);
  return html`<dl class="figures facts">
      ${site && html`<${Figure} name="Module" table="sites" column="path" value=${html`<code>${site.path}</code>`} compare=${`${site.attention_kind} attention, ${site.heads} heads of width ${site.head_dim}, ${grids(site.grids)} tokens`} />`}
      <${Figure} name="Probe set" table="heads" column="probe_set" value=${said(row.probe_set)} compare=${owner.probe_set === row.probe_set ? owner.probe_name : ""} />
      <${Figure} name="List of texts" table="heads" column="text_pool" value=${said(row.text_pool)} />
      <${Figure} name="Compared in the space of" table="heads" column="embedder" value=${clip} />
      ${row.text_pool && html`<${Figure} name="Alignment, held out" table="heads" column="alignment_cosine" value=${row.alignment_cosine} unit="cosine"
        compare=${row.alignment_chance == null ? "" : `${row.alignment_chance.toFixed(2)} to other images`} />
      ${row.alignment_accuracy != null && html`<${Figure} name="Answers after alignment" table="heads" column="alignment_accuracy" value=${`${(100 * row.alignment_accuracy).toFixed(1)} %`} unit="right" />`}
      <${Figure} name="Kept by the alignment" table="heads" column="alignment_keeps" value=${row.alignment_keeps} unit="of its variance" compare="1: lengths are kept" />`}
      <${Figure} name="Weights" table="models" column="fingerprint" value=${said(owner.fingerprint)} compare=${owner.model_id} />
    </dl>
    <details><summary>Runs that worked on this model</summary><${Runs} runs=${model.runs} /></details>`;
}
