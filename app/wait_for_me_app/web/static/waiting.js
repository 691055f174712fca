// Groups that wait, the nearest deadline first: who has come, how many are missing, how long there is.

import { h, keyed } from "./dom.js";
import { ask } from "./api.js";
import { state } from "./live.js";
import { left, now, clock } from "./time.js";
import { pips, chips, searchBox, keyText, copyable, emptyRing } from "./shared.js";
import { addDialog, removeDialog } from "./dialogs.js";

export function waitingView(route, go) {
  let text = route.params.get("q") || "", found = null, foundCursor = null, asked = 0, at = -1;
  const list = h("ul", { class: "list", "aria-label": "Waiting groups" });
  const below = h("div");
  const empty = h("div");
  const search = searchBox(text, (value) => { text = value; go(value ? `/waiting?q=${encodeURIComponent(value)}` : "/waiting", true); look(); }, "Group, participant or callback");
  const add = h("button", { type: "button", class: "primary", id: "add", onclick: () => addDialog() }, "Add a participant");
  const root = h("section", {}, h("div", { class: "toolbar" }, h("h1", {}, "Waiting"), search, h("div", { class: "grow" }), add), list, empty, below);

  async function look(cursor = "") { // a search is asked for: the stream brings the nearest hundred only
    const mine = ++asked;
    if (!text && !cursor) { found = null; draw(); return; }
    try {
      const page = await ask(`/api/v1/groups?limit=100&q=${encodeURIComponent(text)}${cursor ? `&cursor=${cursor}` : ""}`);
      if (mine !== asked) return;
      found = cursor ? [...(found || shown()), ...page.groups] : page.groups;
      foundCursor = page.next_cursor;
      draw();
    } catch (problem) { if (mine === asked) below.replaceChildren(h("p", { class: "error" }, problem.message)); }
  }

  function shown() {
    const groups = found ? found.map((group) => state.groups.get(group.group_key) || group) : [...state.groups.values()];
    return groups.sort((a, b) => a.deadline_ms - b.deadline_ms || (a.group_key < b.group_key ? -1 : 1));
  }

  function draw() {
    const groups = shown();
    keyed(list, groups, (group) => group.group_key, row);
    list.hidden = !groups.length;
    add.hidden = Boolean(state.about?.read_only);
    empty.replaceChildren(groups.length || !state.meta ? "" : text ? nothingFound() : nobodyWaits());
    const more = found ? foundCursor : state.more && groups.length && cursorOf(groups.at(-1));
    below.replaceChildren(more ? h("div", { class: "actions", style: { marginTop: "14px" } }, h("button", { type: "button", onclick: () => look(more) }, "Show more")) : "",
      state.meta && !state.meta.is_complete && !state.meta.missing_partitions.length ? h("p", { class: "note" }, "There is more than is looked at in one go. Search for what you miss.") : "");
    mark();
    tick();
  }

  function row(group, old) {
    const before = old?.group?.arrived_count;
    const node = h("li", { class: "group" },
      h("h2", { class: "name" }, h("a", { href: `#/group/${encodeURIComponent(group.group_key)}`, "data-focus": "open" }, keyText(group.group_key)), h("small", {}, group.execute_after_waiting)),
      h("div", { class: "clock num" }, h("b"), h("small", {}, "until it fires"), h("div", { class: "fuse", "aria-hidden": "true" }, h("i"))),
      state.about?.read_only ? h("span") : h("button", { type: "button", class: "quiet act", "data-focus": "remove", "aria-label": `Remove the wait of ${group.group_key}`, onclick: () => removeDialog(group.group_key) }, "Remove"),
      h("div", { class: "who" },
        h("div", { class: "progress" }, pips(group, before), h("strong", {}, `${group.arrived_count} of ${group.number_of_participants_in_group}`)), chips(group, 8)));
    node.group = group;
    return node;
  }

  function tick() {
    for (const node of list.children) {
      const group = node.group, ms = group.deadline_ms - now(), clockNode = node.querySelector(".clock");
      const late = ms <= 0;
      clockNode.firstChild.textContent = late ? (state.connection === "on" ? "firing" : "due") : left(ms);
      clockNode.title = `at ${clock(group.deadline_at, true)}`;
      clockNode.className = `clock num${late ? " due" : ms < 10000 ? " soon" : ""}`;
      clockNode.querySelector("i").style.width = `${Math.max(0, Math.min(100, (ms / 10) / group.wait_time_in_seconds))}%`;
    }
  }

  function mark() { [...list.children].forEach((node, n) => node.classList.toggle("at", n === at)); }
  function move(by) {
    at = Math.max(0, Math.min(list.children.length - 1, at + by));
    mark();
    list.children[at]?.querySelector("a")?.focus();
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }

  const timer = setInterval(tick, 200);
  if (text) look();
  draw();
  return { root, title: "Waiting", draw, move, leave: () => clearInterval(timer) };
}

function cursorOf(group) {
  const bytes = new TextEncoder().encode(`${group.deadline_ms}:${group.group_key}`);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function nothingFound() {
  return h("div", { class: "empty list" }, emptyRing(), h("h2", {}, "No waiting group has this in its names"),
    h("p", {}, "Searched are the names of groups, of the first eight participants, and of callbacks. A group that has fired is under Fired."));
}

function nobodyWaits() {
  const command = "wait-for-me add deploy-42 web-1 --of 3 --wait 60 --do cloudfront.invalidate";
  return h("div", { class: "empty list" }, emptyRing(), h("h2", {}, "Nobody is waiting"),
    h("p", {}, "A group appears here with its first participant, and leaves when all have come or nobody has for its wait time."),
    state.about?.read_only ? null : h("div", {}, copyable(command), h("div", { class: "actions" }, h("button", { type: "button", class: "primary", onclick: () => addDialog() }, "Add the first participant"))));
}
