// Back returns to where one was; a new address starts at its top. The place lives in the history entry itself.

const WAIT = 150; // ms; browsers refuse more than 100 history writes in 30 s

export function rememberScroll() {
  history.scrollRestoration = "manual";
  let timer = 0;
  addEventListener("scroll", () => {
    clearTimeout(timer);
    timer = setTimeout(() => history.replaceState({ y: Math.round(scrollY) }, ""), WAIT);
  }, { passive: true });
}

/** Scroll to the place of this history entry, as soon as the page is tall enough for it (half a second at most). */
export function restoreScroll() {
  const y = history.state?.y ?? 0;
  const until = performance.now() + 500;
  const attempt = () => {
    scrollTo(0, y);
    if (Math.abs(scrollY - y) > 1 && performance.now() < until) requestAnimationFrame(attempt);
  };
  attempt();
}
