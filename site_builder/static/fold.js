// A section that is folded until it is wanted; its heading opens it.
import { html } from "./vendor/htm-preact.js";

/** @param {{id: string, name: string, hint: string, children?: any}} props hint: what is inside, in a few words */
export const Fold = ({ id, name, hint, children }) => html`<section aria-labelledby=${id}><details class="fold">
  <summary><h2 id=${id}>${name}</h2> <span class="note">${hint}</span></summary>${children}</details></section>`;
