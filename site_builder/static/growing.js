// Of a site that is built again and again while its atlas is computed: says so, and shows a newer build as soon as there is
// one with the page that is opened next. (Files of a page that is two builds old are gone: data.js then reloads it.)
import { site } from "./data.js";

const EVERY = 5000; // milliseconds
const THIS = `${site.revision} growing`;

const note = document.createElement("p");
note.className = "growing";
Object.assign(note.style, {
  position: "fixed", left: 0, bottom: 0, zIndex: 2, maxWidth: "none", padding: "4px 16px", fontSize: "14px", background: "var(--tint)", borderTopRightRadius: "6px",
});
note.setAttribute("role", "status");
note.textContent = "This atlas is still being computed.";
document.body.append(note);

async function look() {
  const said = await fetch("revision.txt", { cache: "no-store" }).then((answer) => (answer.ok ? answer.text() : "")).catch(() => "");
  if (said.trim() === "" || said.trim() === THIS) return void setTimeout(look, EVERY); // nothing new, or nobody answers
  const reload = document.createElement("a");
  reload.href = location.href;
  reload.textContent = "show it now";
  reload.addEventListener("click", (event) => (event.preventDefault(), location.reload()));
  note.replaceChildren(said.trim().endsWith("growing") ? "There is more of this atlas now: it comes with the next page, or " : "This atlas is complete now: the rest comes with the next page, or ", reload, ".");
  addEventListener("hashchange", () => location.reload());
}
setTimeout(look, EVERY);
