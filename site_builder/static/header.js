// The bar on every page: home, jump box, theme.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { site } from "./data.js";
import { useLoaded, usePreference } from "./parts.js";
import { isAddress, jumpTarget } from "./jump.js";
import { findLabels } from "./labels.js";
import { link } from "./route.js";
import { Tray } from "./tray.js";

const THEMES = { system: "light", light: "dark", dark: "system" };

/** @param {{route: import("./route.js").Route}} props */
export function Header({ route }) {
  const asked = route.page === "search" ? (route.query.get("q") ?? "") : "";
  const [text, setText] = useState(asked);
  useEffect(() => setText(asked), [asked]);
  const [typed, setTyped] = useState(""); // what suggestions are for; nothing where they are put away
  const [active, setActive] = useState(-1);
  const { value, stale } = useLoaded(async () => (typed.trim() === "" ? [] : (await import("./suggest.js")).suggest(typed.trim(), route).catch(() => [])), [typed, route.hash]);
  const offered = stale || typed.trim() === "" ? [] : (value ?? []);
  useEffect(() => setTyped(""), [route.hash]);
  const type = (event) => {
    setText(event.target.value);
    setTyped(event.target.value);
    setActive(-1);
  };
  const onKey = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape" && offered.length > 0) setTyped("");
    else if (step !== undefined && offered.length > 0) setActive((active + 1 + step + offered.length + 1) % (offered.length + 1) - 1);
    else return;
    event.preventDefault();
  };
  const go = (event) => {
    event.preventDefault();
    setTyped("");
    if (offered[active] !== undefined) {
      event.target.querySelector("input").blur();
      return void (location.hash = offered[active].href);
    }
    if (text.trim() === "") return;
    event.target.querySelector("input").blur();
    if (isAddress(text, route)) return void (location.hash = jumpTarget(text, route) ?? link.search({ q: text.trim() }));
    // Part of a model's name may also be a word of labels (coat): then both are listed.
    Promise.all([findLabels(text), findLabels(text, site.head_search)]).catch(() => [[], []]).then(([labels, said]) => { // labels of clusters are neurons'
      location.hash = (labels.length + said.length === 0 ? jumpTarget(text, route) : null) ?? link.search({ q: text.trim() });
    });
  };
  const what = [site.search && "labels", site.head_search && "what heads say"].filter(Boolean).join(" and ");
  return html`<header class="bar">
    <a class="home" href=${link.home()}>${site.title}</a>
    <form role="search" onSubmit=${go}>
      <input id="jump" type="text" inputmode="search" value=${text} onInput=${type} onKeyDown=${onKey} onBlur=${() => setTimeout(() => setTyped(""), 200)}
        role="combobox" aria-autocomplete="list" aria-expanded=${offered.length > 0} aria-controls="suggestions" aria-activedescendant=${active >= 0 && offered.length > 0 ? `suggestion-${active}` : null}
        placeholder=${what ? "stripes, deit-tiny/mlp/3/41 …" : "Jump to a model, layer or neuron"}
        aria-label=${`${what && `Search ${what}, or `}jump to a model, a layer, a neuron or a head`} autocomplete="off"
        autocapitalize="none" spellcheck=${false} enterkeyhint="go" /><kbd aria-hidden="true">/</kbd>
      <ul id="suggestions" role="listbox" aria-label="Suggestions" hidden=${offered.length === 0}>${offered.map((one, at) => html`<li key=${one.href + one.note} id=${`suggestion-${at}`} role="option"
        aria-selected=${at === active} onPointerDown=${(event) => event.preventDefault()} onClick=${() => (setTyped(""), (location.hash = one.href))}>
        <span class=${one.face ? "tile" : ""} style=${one.face ?? {}}></span><span>${one.title}</span> <span class="note">${one.note}</span></li>`)}</ul>
    </form>
    <${Tray} /><${Theme} />
    <a class="help" href=${link.help()}>Help</a>
  </header>`;
}

function Theme() {
  const [theme, setTheme] = usePreference("theme", "system");
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);
  const next = THEMES[theme] ?? "system";
  return html`<button class="plain theme" type="button" onClick=${() => setTheme(next)}
    title=${`Switch to ${next}`}>Theme: ${theme === "system" ? "auto" : theme}</button>`;
}
