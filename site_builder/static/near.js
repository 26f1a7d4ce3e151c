// Things that load when they come near the screen, not before.
import { useEffect, useState } from "./vendor/htm-preact.js";

// The second is for what lies in a box that scrolls by itself, where the first has no effect.
const NEAR = /** @type {any} */ ({ rootMargin: "400px", scrollMargin: "400px" });

/** Whether an element is, or was, within a screen of being seen. @param {{current: Element|null}} box */
export function useNear(box) {
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (near || !box.current) return undefined;
    const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setNear(true), NEAR);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, [near]);
  return near;
}
