// What the picture reaches, against what: its start, fresh transforms, the other neurons of the layer.
import { html } from "../vendor/htm-preact.js";
import { Curve, DotPlot } from "../charts.js";
import { count, figure, percent, spread } from "../format.js";
import { Figure } from "../parts.js";

const has = (value) => value !== null && value !== undefined;

/** In a few lines and one drawing: how far to trust the picture. */
export function Trust({ row, summary, layer }) {
  const rows = [
    { name: "start", value: row.activation_start, kind: "start" },
    { name: "this picture", value: row.activation, kind: "end" },
    { name: "fresh transforms", value: row.robust_mean, spread: row.robust_std, kind: "fresh",
      note: `${figure(row.robust_mean)} ± ${spread(row.robust_std)}` },
    { name: `layer ${layer}`, band: summary.quantiles, kind: "layer", note: `median ${figure(summary.quantiles[2])}` },
  ];
  return html`<h2>How far to trust the picture</h2>
    <p class="verdict">${verdict(row)}</p>
    <${DotPlot} label="Activation on one scale" rows=${rows} />
    <p class="note">Activation, mean over patch tokens, on one scale; the line is 0. The bar of layer ${layer} holds half, its thin
      part nine tenths of the activations that the ${count(summary.described)} pictures of this layer reach.</p>
    <p class="rank">Rank <b>${count(row.rank)}</b> of ${count(summary.described)} in its layer by activation.</p>
    ${has(row.rescue) && html`<p class="rank">Rescued: the first attempt gave no gradient, then <b>${row.rescue}</b> moved it.</p>`}
    <div class="curves">
      <${Curve} title="Activation, step by step" points=${row.loss_curve.map(([step, , activation]) => [step, activation])} />
      <${Curve} title="Objective, step by step" points=${row.loss_curve.map(([step, objective]) => [step, objective])} />
    </div>`;
}

function verdict(row) {
  if (row.status === "inactive") {
    return html`It reaches <b>${figure(row.activation)}</b>, from ${figure(row.activation_start)} at the start: this neuron did not fire.`;
  }
  const kept = has(row.robust_mean) && row.activation > 0 ? row.robust_mean / row.activation : null;
  return html`It drives the neuron to <b>${figure(row.activation)}</b>, from ${figure(row.activation_start)} at the start.${" "}
    ${kept !== null && html`Under ${row.robust_draws} fresh random transforms <b>${percent(kept)}</b> of that ${kept < 1 ? "remains" : "is reached"}.`}`;
}

export function Numbers({ row, summary }) {
  const kept = (value, whole) => (has(value) && whole > 0 ? `${percent(value / whole)} of the clean picture's` : "");
  return html`<dl class="figures">
      <${Figure} name="Activation" column="activation" value=${row.activation} unit="mean over patches"
        compare=${`median of the layer ${figure(summary.quantiles[2])}, start ${figure(row.activation_start)}`} />
      <${Figure} name="Strongest patch" column="activation_peak" value=${row.activation_peak} unit="activation"
        compare=${`start ${figure(row.activation_start_peak)}`} />
      <${Figure} name="Under fresh transforms" column="robust_mean" value=${row.robust_mean} unit=${`± ${spread(row.robust_std)}, ${row.robust_draws} draws`}
        compare=${kept(row.robust_mean, row.activation)} />
      <${Figure} name="Strongest patch, fresh" column="robust_peak" value=${row.robust_peak} unit="activation" compare=${kept(row.robust_peak, row.activation_peak)} />
      <${Figure} name="Picture as stored" column="activation_stored" value=${row.activation_stored} unit="mean over patches" compare=${kept(row.activation_stored, row.activation)} />
      <${Figure} name="Status" column="status" value=${row.status} compare=${`${count(summary.active)} active, ${count(summary.inactive)} inactive in this layer`} />
      <${Figure} name="Rescue" column="rescue" value=${row.rescue ?? "none"} compare=${has(row.rescue) ? "" : "a neuron with a flat gradient gets another start"} />
      <${Figure} name="Steps" column="steps" value=${row.steps} unit="steps" compare=${`${count(row.image_steps ?? 0)} forward-backward passes of one image`} />
      <${Figure} name="Time" column="seconds" value=${row.seconds} unit="s" compare="share of its batch, on the machine of the run" />
    </dl>`;
}
