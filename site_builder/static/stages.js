// What was done for a model in this atlas, and the commands that add the rest.
import { html } from "./vendor/htm-preact.js";
import { findModel, site } from "./data.js";

const STAGES = site.stages.map(([stage, command, has, adds]) => ({ stage, command, has, adds }));

const OF_PICTURES = ["visualize", "verdict"]; // stages that need no real images

/** What a model has and lacks, in words. @param {{stages: string[]}} entry */
export function inAndOut({ stages }) {
  const names = (inside) => STAGES.filter(({ stage }) => stages.includes(stage) === inside).map(({ has }) => has);
  return { has: names(true), lacks: names(false) };
}

/** The stages that this atlas lacks for a model, each with the command that adds it. */
export function Lacking({ slug }) {
  const model = findModel(slug);
  const lacking = STAGES.filter(({ stage }) => !model.stages.includes(stage));
  if (lacking.length === 0) return null;
  const commands = [...new Set(lacking.map(({ command }) => command))];
  return html`<section aria-labelledby="lacking"><h2 id="lacking">Not in this atlas yet</h2>
    ${site.growing && html`<p>A run is adding to this atlas: what it was asked for comes by itself. What it was not asked for, these commands add.</p>`}
    <dl class="lacking">${commands.map((command) => html`<div key=${command}>
      <dt>This atlas has no ${command.split(",").pop()} stage for ${slug}, which adds ${lacking.filter((one) => one.command === command).map(({ adds }) => adds).join("; ")}.</dt>
      <dd>Run <code>neuron-atlas run --model ${model.model_id} --stages ${command}${!OF_PICTURES.includes(command) && " --probe FOLDER"}</code></dd></div>`)}</dl></section>`;
}
