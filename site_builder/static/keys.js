// The keyboard: one listener, and pages that say which keys they take.
import { useEffect } from "./vendor/htm-preact.js";
import { readPreference } from "./parts.js";

const typing = (/** @type {EventTarget|null} */ target) =>
  target instanceof HTMLElement && (target.matches("input, textarea, select") || target.isContentEditable);

/**
 * Keys of a page, without modifiers and never while somebody types.
 * @param {Record<string, () => void>} actions by `KeyboardEvent.key`
 * @param {any[]} inputs what the actions depend on
 */
export function useKeys(actions, inputs) {
  useEffect(() => {
    const onKey = (/** @type {KeyboardEvent} */ event) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
      const action = actions[event.key];
      if (action === undefined || (event.key.length === 1 && readPreference("keys") === "off")) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, inputs);
}
