// The runs that made this part of the atlas.
import { html } from "../vendor/htm-preact.js";
import { day, plural, pretty } from "../format.js";

export function Runs({ runs }) {
  if (runs.length === 0) return html`<p class="note">This atlas records no run.</p>`;
  return html`<ul class="runs">${runs.map((run) => html`<li key=${run.run_id}>
    <details><summary><code>${run.run_id}</code> ${run.status} · ${day(run.started)} · ${plural(run.units_done, "work unit")} done, ${run.units_reused} reused, ${run.units_failed} failed</summary>
      <pre tabindex="0"><code>${run.command}</code></pre>
      <p class="note">code ${run.code_version}; ended ${day(run.finished)}</p>
      ${run.failures?.length > 0 && html`<ul>${run.failures.map((failure) => html`<li key=${failure.unit}>${failure.unit}: ${failure.error}</li>`)}</ul>`}
      <details><summary>Configuration and machine</summary><pre tabindex="0"><code>${pretty(run.config)}</code></pre>
        <pre tabindex="0"><code>${pretty(run.machine)}</code></pre></details>
    </details></li>`)}</ul>`;
}
