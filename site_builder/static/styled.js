// Styles of pages that few readers open: read with them. Beside this module in the modules and in a bundle alike.
import { once, Trouble } from "./data.js";

/** Resolves once the style is there. @param {string} name of a file beside this module @returns {Promise<void>} */
export const styled = (name) => once(`style ${name}`, () => new Promise((/** @type {(none?: undefined) => void} */ done, fail) => {
  const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: new URL(`./${name}`, import.meta.url).href });
  style.addEventListener("load", () => done());
  style.addEventListener("error", () => {
    style.remove();
    fail(new Trouble("The style of this page could not be read. Check the connection, then reload the page."));
  });
  document.head.append(style);
}));
