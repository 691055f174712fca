// The page's frame: routes in the address, the header, banners, keys.

import { h, icon, ICONS } from "./dom.js";
import { ask } from "./api.js";
import { state, connect, onChange, pause } from "./live.js";
import { clock } from "./time.js";
import { address } from "./shared.js";
import { addDialog, helpDialog } from "./dialogs.js";
import { waitingView } from "./waiting.js";
import { groupView } from "./group.js";
import { firesView } from "./fires.js";
import { lettersView } from "./letters.js";
import { partitionsView } from "./partitions.js";

const VIEWS = { waiting: waitingView, fires: firesView, "dead-letters": lettersView, partitions: partitionsView, group: groupView };
const TABS = ["waiting", "fires", "dead-letters", "partitions"];
const main = document.getElementById("main"), banners = document.getElementById("banners"), live = document.getElementById("live");
let view = null, shownPath = "", drawn = "";

function route() {
  const [path, query = ""] = (location.hash.slice(1) || "/waiting").split("?");
  const [, kind, ...rest] = path.split("/");
  let name = "";
  try { name = decodeURIComponent(rest.join("/")); } catch { name = rest.join("/"); }
  return { kind: VIEWS[kind] ? kind : "waiting", name, path, params: new URLSearchParams(query) };
}

function go(path, quietly = false) { // a filter is kept in the address without a step in the browser's history
  if (quietly) { history.replaceState(null, "", `#${path}`); shownPath = route().path; } else location.hash = path;
}

function show() {
  const wanted = route();
  if (view && wanted.path === shownPath) return;
  const first = view === null;
  view?.leave();
  shownPath = wanted.path;
  view = VIEWS[wanted.kind](wanted, go);
  document.title = `${view.title} · WaitForMe`;
  main.replaceChildren(view.root);
  for (const tab of document.querySelectorAll("[data-tab]")) {
    if (tab.dataset.tab === wanted.kind) tab.setAttribute("aria-current", "page"); else tab.removeAttribute("aria-current");
  }
  if (!first) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
}

function draw() {
  header();
  warn();
  view?.draw();
}

function header() {
  const word = { on: state.meta ? `Live, ${state.meta.workers_answered} of ${state.meta.workers_known} ${state.meta.workers_known === 1 ? "worker" : "workers"}` : "Live", off: "Connection lost", connecting: "Connecting" }[state.connection];
  const partly = state.connection === "on" && Boolean(state.meta && (state.meta.silent.length || state.meta.missing_partitions.length));
  live.dataset.state = state.paused ? "paused" : partly ? "partly" : state.connection;
  document.body.classList.toggle("stale", state.connection === "off");
  document.getElementById("live-text").textContent = state.paused ? "Paused" : word;
  const open = [...state.letters.values()].filter((letter) => !letter.handled).length;
  const stats = state.stats, numbers = { ...(stats || {}), fired: state.meta ? state.fires.size : undefined, dead_letters: state.meta ? open : undefined, partitions: state.about?.partitions };
  for (const node of document.querySelectorAll("[data-count]")) node.textContent = numbers[node.dataset.count]?.toLocaleString() ?? "–";
  document.querySelector('[data-tab="dead-letters"]').classList.toggle("alarm", open > 0);
  const button = document.getElementById("pause");
  button.setAttribute("aria-pressed", String(state.paused));
  button.replaceChildren(icon(...(state.paused ? ICONS.play : ICONS.pause)));
}

function warn() {
  const found = [];
  if (state.connection === "off" && !state.paused) found.push(["bad", "No connection to the worker.", state.meta ? `What is shown is from ${state.since ? clock(state.since) : "before"}. Nothing that waits is lost: Kafka has it. Trying again.` : "Nothing is shown until it answers. Trying again."]);
  const meta = found.length ? null : state.meta; // what is not live says nothing of now
  for (const silent of meta?.silent || []) found.push(["", `${meta.workers_answered} of ${meta.workers_known} workers answered.`, `${notShown(silent.partitions)} ${address(silent.url)}: ${silent.why}.`]);
  const named = new Set((meta?.silent || []).flatMap((one) => one.partitions)), nobody = (meta?.missing_partitions || []).filter((one) => !named.has(one));
  if (nobody.length) found.push(["", "Nobody has them right now:", `${nobody.length === 1 ? "partition" : "partitions"} ${nobody.join(", ")}. Lanes are being taken over, or a worker is missing.`]);
  if (meta && state.window?.failure) found.push(["", "Fires and dead letters are not up to date.", state.window.failure]);
  const sign = JSON.stringify(found);
  if (sign === drawn) return;
  drawn = sign;
  banners.replaceChildren(...found.map(([kind, title, text]) => h("div", { class: `banner ${kind}` }, h("b", {}, title), h("span", {}, text))));
}

function notShown(numbers) {
  return numbers.length ? `Groups on ${numbers.length === 1 ? "partition" : "partitions"} ${numbers.join(", ")} are not shown.` : "It has no partitions.";
}

const THEMES = ["auto", "light", "dark"];
function theme(wanted) {
  document.documentElement.dataset.theme = wanted;
  try { localStorage.setItem("wait-for-me-theme", wanted); } catch { /* a private window remembers nothing */ }
  const button = document.getElementById("theme");
  button.replaceChildren(icon(...ICONS[wanted]));
  button.setAttribute("aria-label", `Theme: ${wanted}. Change it`);
}
function nextTheme() { theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]); }

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "Escape") { if (typing) event.target.blur(); else if (route().kind === "group") go("/waiting"); return; }
  if (typing) return;
  const keys = {
    "/": () => document.getElementById("search")?.focus(), "?": helpDialog, a: () => !state.about?.read_only && addDialog(), p: () => pause(!state.paused), t: nextTheme,
    j: () => view.move?.(1), k: () => view.move?.(-1), ...Object.fromEntries(TABS.map((tab, n) => [String(n + 1), () => go(`/${tab}`)])),
  };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
document.getElementById("pause").addEventListener("click", () => pause(!state.paused));
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", helpDialog);
addEventListener("hashchange", show);
onChange(draw);

let stored = "auto";
try { stored = localStorage.getItem("wait-for-me-theme") || "auto"; } catch { /* as above */ }
theme(THEMES.includes(stored) ? stored : "auto");
ask("/api/v1/about").then((about) => {
  state.about = about;
  document.getElementById("prefix").textContent = `${about.prefix}${about.read_only ? ", read only" : ""}${about.demo ? ", demo" : ""}`;
  draw();
}).catch(() => {});
show();
header();
connect();
