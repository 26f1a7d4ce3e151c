// The bar on every page: home, jump box, theme.
import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { site } from "./data.js";
import { usePreference } from "./parts.js";
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
  const go = (event) => {
    event.preventDefault();
    if (text.trim() === "") return;
    event.target.querySelector("input").blur();
    if (isAddress(text, route)) return void (location.hash = jumpTarget(text, route) ?? link.search({ q: text.trim() }));
    // Part of a model's name may also be a word of labels (coat): then both are listed.
    Promise.all([findLabels(text), findLabels(text, site.head_search)]).catch(() => [[], []]).then(([labels, said]) => {
      location.hash = (labels.length + said.length === 0 ? jumpTarget(text, route) : null) ?? link.search({ q: text.trim() });
    });
  };
  const what = [site.search && "labels", site.head_search && "what heads say"].filter(Boolean).join(" and ");
  return html`<header class="bar">
    <a class="home" href=${link.home()}>${site.title}</a>
    <form role="search" onSubmit=${go}>
      <input id="jump" type="search" value=${text} onInput=${(event) => setText(event.target.value)}
        placeholder=${what ? "stripes, deit-tiny/mlp/3/41 …" : "Jump to a model, layer or neuron"}
        aria-label=${`${what && `Search ${what}, or `}jump to a model, a layer, a neuron or a head`} autocomplete="off"
        autocapitalize="none" spellcheck=${false} enterkeyhint="go" /><kbd aria-hidden="true">/</kbd>
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
