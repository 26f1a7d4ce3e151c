// Service worker of a site: what a reader has opened comes without waiting the next time, and without a connection.
// Files with a hash at the end of their name, or of a folder that they lie in, never change, and are answered from what
// is kept. The page itself is asked for each time, and taken from what is kept where nobody answers, so that a site that
// was built anew is never missed.
const CACHE = "neuron-atlas-1";
const MOST = 3000; // files kept; the oldest go first
const FIXED = /-[0-9a-f]{12}[./]/;

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// what was loaded before this worker was there: the browser has it still
self.addEventListener("message", (event) => event.waitUntil(keepLoaded(event.data)));

self.addEventListener("fetch", (event) => {
  const { request } = event, url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin || request.headers.has("range")) return;
  if (FIXED.test(url.pathname)) event.respondWith(fixed(event));
  else if (request.mode === "navigate") event.respondWith(page(event));
});

async function fixed(event) {
  const cache = await caches.open(CACHE);
  return (await cache.match(event.request, { ignoreVary: true })) ?? asked(event, cache);
}

async function page(event) {
  const cache = await caches.open(CACHE);
  try {
    return await asked(event, cache);
  } catch (error) {
    const known = await cache.match(event.request, { ignoreSearch: true, ignoreVary: true });
    if (known) return known;
    throw error;
  }
}

/** The server's answer, kept where it is whole. */
async function asked(event, cache) {
  const answer = await fetch(event.request);
  if (answer.status === 200 && answer.type === "basic") event.waitUntil(keep(cache, event.request, answer.clone()));
  return answer;
}

async function keep(cache, request, answer) {
  try {
    await cache.put(request, answer);
  } catch (error) {
    if (error.name === "QuotaExceededError") await drop(cache, 0.75); // else the answer was broken off, by leaving the page
  }
  if (Math.random() < 1 / 64) await drop(cache, 1);
}

/** Let go of the oldest, until this share of the most is left. */
async function drop(cache, share) {
  const known = await cache.keys();
  const most = Math.min(MOST, known.length) * share;
  await Promise.all(known.slice(0, Math.max(0, known.length - most)).map((one) => cache.delete(one)));
}

async function keepLoaded(addresses) {
  const cache = await caches.open(CACHE);
  for (const address of addresses) {
    const url = new URL(address);
    const wanted = url.origin === location.origin && (FIXED.test(url.pathname) || url.href === self.registration.scope);
    if (wanted && !(await cache.match(address, { ignoreVary: true }))) await cache.add(new Request(address, { cache: "force-cache" })).catch(() => {});
  }
}
