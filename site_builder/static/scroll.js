// Back returns to where one was; a new address starts at its top. The place lives in the history entry itself.

const WAIT = 150; // ms; browsers refuse more than 100 history writes in 30 s

export function rememberScroll() {
  history.scrollRestoration = "manual";
  let timer = 0;
  const save = () => {
    clearTimeout(timer);
    const y = Math.round(scrollY);
    if (history.state?.y !== y) history.replaceState({ y }, "");
  };
  addEventListener("scroll", () => {
    clearTimeout(timer);
    timer = setTimeout(save, WAIT);
  }, { passive: true });
  addEventListener("click", save, true); // what leads away must not overtake the timer
  addEventListener("keydown", save, true);
}

/**
 * Scroll to the place of this history entry, as soon as the page is tall enough for it: for a few seconds at most,
 * and not against a reader who scrolls already.
 * @param {boolean} stay a new entry keeps the scroll: from neuron to neuron, the eye stays on one figure
 */
export function restoreScroll(stay) {
  if (stay && history.state === null) return;
  const y = history.state?.y ?? 0;
  const until = performance.now() + 4000;
  const reader = new AbortController();
  for (const kind of ["wheel", "touchstart", "keydown", "hashchange"]) addEventListener(kind, () => reader.abort(), { once: true, passive: true, signal: reader.signal });
  const attempt = () => {
    if (reader.signal.aborted) return;
    scrollTo(0, y);
    if (Math.abs(scrollY - y) > 1 && performance.now() < until) requestAnimationFrame(attempt);
    else reader.abort();
  };
  attempt();
}
