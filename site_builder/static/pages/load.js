// Fetches the script of a page by its name in the list of pages. A bundle has another file here (bundling.py), which knows
// the pages that came with it.
export const load = (/** @type {string} */ script) => import(`./${script}`);
