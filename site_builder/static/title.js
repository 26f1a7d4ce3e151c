// The name of the page in the browser's tab.
import { useEffect } from "./vendor/htm-preact.js";
import { site } from "./data.js";

export function useTitle(/** @type {string} */ title) {
  useEffect(() => {
    document.title = title === "" ? site.title : `${title} · ${site.title}`;
  }, [title]);
}
