// The app: one route at a time, its page, its title, its place in the scroll.
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./vendor/htm-preact.js";
import { site } from "./data.js";
import { Header } from "./header.js";
import { anyNeuron } from "./jump.js";
import { useKeys } from "./keys.js";
import { Failure, Lazy } from "./parts.js";
import { link, parseHash } from "./route.js";
import { rememberScroll, restoreScroll } from "./scroll.js";
import { PAGES } from "./pages/index.js";
import { load } from "./pages/load.js";

const nameOf = (/** @type {string} */ page) => `${page[0].toUpperCase()}${page.slice(1)}Page`;
const later = (load, name) => (props) => html`<${Lazy} load=${load} name=${name} props=${props} />`;

/** Component of each page that is drawn. @type {Record<string, any>} */
const COMPONENTS = Object.fromEntries(await Promise.all(PAGES.filter(({ soon, late }) => soon ?? late).map(
  async ({ page, soon, late }) => [page, soon ? (await load(soon))[nameOf(page)] : later(() => load(late), nameOf(page))])));
const BARE = PAGES.filter(({ bare }) => bare).map(({ page }) => page);
const STAYS = PAGES.filter(({ stays }) => stays).map(({ page }) => page);

function App() {
  const [route, setRoute] = useState(parseHash(location.hash));
  useEffect(() => {
    const follow = () => {
      const next = parseHash(location.hash);
      if (next.page === "random") location.replace(anyNeuron());
      else setRoute(next);
      // A Space shows the site in a frame; its own address bar follows where the reader goes.
      if (site.frame !== "") parent.postMessage({ hash: location.hash }, site.frame);
    };
    follow();
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const before = useRef("");
  useEffect(() => {
    const stays = STAYS.includes(route.page) && before.current === route.page;
    restoreScroll(stays);
    // a link that is gone takes the focus with it: whoever reads by ear or by keys begins at the new page's heading
    if (before.current !== "" && document.activeElement === document.body) document.getElementById("main")?.focus({ preventScroll: true });
    before.current = route.page;
  }, [route.hash]);
  useKeys({
    "/": () => document.getElementById("jump")?.focus(),
    r: () => (location.hash = link.random()),
    "?": () => (location.hash = route.page === "help" ? link.home() : link.help()),
  }, [route.page]);
  const Page = COMPONENTS[route.page] ?? COMPONENTS.home; // `random` is on its way to a neuron
  // a page keeps its state while its own address changes
  return html`${!BARE.includes(route.page) && html`<${Header} route=${route} />`}<${Spoken} at=${route.hash} />
    <main id="main" tabindex="-1"><${Guard} key=${route.page}><${Page} route=${route} /><//></main>`;
}

/** The title of the page one comes to, for screen readers. */
function Spoken({ at }) {
  const [title, setTitle] = useState("");
  const first = useRef(true);
  useEffect(() => {
    if (first.current) return void (first.current = false); // the browser announces the page one begins with
    const timer = setTimeout(() => setTitle(document.title), 300); // titles follow data
    return () => clearTimeout(timer);
  }, [at]);
  return html`<p role="status" class="spoken">${title}</p>`;
}

/** An error in a page is told on the page; the header and every other page go on working. */
function Guard({ children }) {
  const [error] = useErrorBoundary();
  return error ? html`<${Failure} error=${error}><p><a href=${link.home()}>To the start</a></p><//>` : children;
}

document.getElementById("skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the address of a page here, not of a place in it
  document.getElementById("main")?.focus();
});
rememberScroll();
if (site.growing) import("./growing.js");
const place = /** @type {HTMLElement} */ (document.getElementById("app"));
place.replaceChildren();
render(html`<${App} />`, place);
setTimeout(() => import("./offline.js").then(({ keepOpened }) => keepOpened()), 2000); // what the page needs goes first
