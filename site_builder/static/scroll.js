// Back returns to where one was, and the focus to the link that was followed; a new address starts at its top.
// Both live in the history entry itself.

const WAIT = 150; // ms; browsers refuse more than 100 history writes in 30 s
const PATIENCE = 15000; // ms; a slow line takes as long to bring a page

let arriving = 0; // until when what is scrolled is the page before

export function rememberScroll() {
  history.scrollRestoration = "manual";
  let timer = 0;
  const save = (/** @type {Event|undefined} */ event = undefined) => {
    clearTimeout(timer);
    if (event === undefined && performance.now() < arriving) return;
    const next = { y: Math.round(scrollY), ...followed(event?.type === "click" ? event.target : document.activeElement) };
    if (["y", "href", "nth"].some((name) => history.state?.[name] !== next[name])) history.replaceState(next, "");
  };
  addEventListener("scroll", () => {
    clearTimeout(timer);
    timer = setTimeout(() => save(), WAIT);
  }, { passive: true });
  addEventListener("popstate", () => {
    clearTimeout(timer);
    arriving = performance.now() + PATIENCE / 3;
  });
  addEventListener("click", save, true); // what leads away must not overtake it
  addEventListener("keydown", save, true);
}

const linksTo = (/** @type {string} */ href) => /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(`main a[href="${CSS.escape(href)}"]`));

/** The link that is clicked or has the focus, and which of those with its address it is; nothing where it is no link. */
function followed(/** @type {EventTarget|null} */ target) {
  const link = target instanceof Element ? target.closest("main a[href]") : null;
  const href = link?.getAttribute("href") ?? null;
  return href === null ? {} : { href, nth: [...linksTo(href)].findIndex((one) => one === link) };
}

/**
 * Scroll to the place of this history entry and give the focus to the link that was followed from it, as soon as the
 * page is tall enough and the link is drawn; not for long, and not against a reader who does something.
 * @param {boolean} stay a new entry keeps the scroll: from neuron to neuron, the eye stays on one figure
 */
export function restoreScroll(stay) {
  arriving = 0;
  if (stay && history.state === null) return;
  const { y = 0, href: left = "", nth = 0 } = history.state ?? {};
  const until = performance.now() + PATIENCE;
  const reader = new AbortController();
  for (const kind of ["wheel", "touchstart", "keydown", "hashchange"]) addEventListener(kind, () => reader.abort(), { once: true, passive: true, signal: reader.signal });
  const attempt = () => {
    if (reader.signal.aborted) return;
    scrollTo(0, y);
    const found = left && linksTo(left)[nth];
    const link = found && !found.closest('[aria-busy="true"]') ? found : null; // else it is of the page before
    link?.focus({ preventScroll: true });
    if ((Math.abs(scrollY - y) > 1 || (left && !link)) && performance.now() < until) requestAnimationFrame(attempt);
    else reader.abort();
  };
  attempt();
}
