// Keeps what a reader has opened, where the browser allows it, for the next time and for times without a connection.
import { site } from "./data.js";

export async function keepOpened() {
  if (!("serviceWorker" in navigator) || site.growing) return; // a growing site changes too often to be worth keeping
  try {
    await navigator.serviceWorker.register("worker.js");
    const { active } = await navigator.serviceWorker.ready;
    const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
    active?.postMessage([...loaded, new URL("./", location.href).href]);
  } catch {
    // a page in a frame, or a browser that keeps nothing: everything works without
  }
}

/** How many files are kept. @returns {Promise<number>} */
export async function countKept() {
  if (!("caches" in globalThis)) return 0;
  const names = await caches.keys();
  const counts = await Promise.all(names.map(async (name) => (await (await caches.open(name)).keys()).length));
  return counts.reduce((sum, count) => sum + count, 0);
}

export async function forgetKept() {
  await Promise.all((await caches.keys()).map((name) => caches.delete(name)));
}
