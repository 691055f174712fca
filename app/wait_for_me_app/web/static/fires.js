// What has fired, the newest first, and what became of it.

import { h, keyed } from "./dom.js";
import { state } from "./live.js";
import { clock, span, now } from "./time.js";
import { pill, groupLink, mover, searchBox, emptyRing, OUTCOME } from "./shared.js";

export function firesView(route, go) {
  let text = route.params.get("q") || "", reason = route.params.get("reason") || "any";
  const body = h("tbody"), empty = h("div"), note = h("p", { class: "note" });
  const table = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Fires" }, h("table", {},
    h("thead", {}, h("tr", {}, ["Fired", "Group", "Why", "Arrived"].map((name) => h("th", { scope: "col" }, name)), ["Waited", "Late by"].map((name) => h("th", { scope: "col", class: "num" }, name)), h("th", { scope: "col" }, "Callback"))), body));
  const select = h("select", { "aria-label": "Why it fired" }, [["any", "All"], ["complete", "Complete"], ["timeout", "Timed out"]].map(([value, word]) => h("option", { value, selected: value === reason }, word)));
  select.addEventListener("change", () => { reason = select.value; remember(); draw(); });
  const search = searchBox(text, (value) => { text = value; remember(); draw(); }, "Group or fire id");
  const root = h("section", {}, h("div", { class: "toolbar" }, h("h1", {}, "Fired"), search, select), table, empty, note);

  function remember() {
    const params = new URLSearchParams();
    if (text) params.set("q", text);
    if (reason !== "any") params.set("reason", reason);
    go(params.size ? `/fires?${params}` : "/fires", true);
  }

  function draw() {
    const wanted = text.toLowerCase();
    const fires = [...state.fires.values()].filter((fire) => (reason === "any" || fire.reason === reason) && (!wanted || fire.group_key.toLowerCase().includes(wanted) || fire.fire_id.includes(wanted)))
      .sort((a, b) => (a.appended_at < b.appended_at ? 1 : a.appended_at > b.appended_at ? -1 : b.offset - a.offset)).slice(0, 100);
    keyed(body, fires, (fire) => fire.fire_id, row);
    table.hidden = !fires.length;
    empty.replaceChildren(fires.length || !state.meta ? "" : h("div", { class: "empty list" }, emptyRing(), h("h2", {}, state.fires.size ? "No recent fire is like that" : "Nothing has fired lately"),
      h("p", {}, "A group fires when all have arrived, or when nobody has for its wait time.")));
    note.textContent = state.window?.failure ? `The topics cannot be followed just now: ${state.window.failure}` : fires.length ? `The newest ${fires.length}, from the ends of the topics. Older ones are in the fires topic.` : "";
  }

  function row(fire) {
    const outcome = fire.outcome, fresh = state.fresh.delete(fire.fire_id);
    return h("tr", { class: fresh ? "fresh" : null },
      h("td", { class: "moment", "data-label": "Fired" }, h("time", { datetime: fire.fired_at, title: clock(fire.fired_at, true) }, clock(fire.fired_at))),
      h("td", { class: "title" }, groupLink(fire.group_key), h("small", { title: fire.fire_id }, fire.execute_after_waiting)),
      h("td", { "data-label": "Why" }, pill(fire.reason)),
      h("td", { "data-label": "Arrived" }, `${fire.arrived_count} of ${fire.number_of_participants_in_group}`, fire.missing_count ? h("small", { class: "missing" }, `${fire.missing_count} missing`) : null),
      h("td", { class: "num", "data-label": "Waited" }, span(fire.waited_seconds)),
      h("td", { class: "num", "data-label": "Late by" }, fire.lateness_seconds === null ? "–" : span(fire.lateness_seconds)),
      h("td", { class: "wide inline", "data-label": "Callback" }, outcome ? [pill(outcome.state, OUTCOME[outcome.state]), h("small", {}, details(outcome))] : h("span", { class: "muted" }, "not taken yet")));
  }

  draw();
  return { root, title: "Fired", draw, move: mover(root, "tbody a.key"), leave() {} };
}

function details(outcome) {
  const parts = [];
  if (outcome.took_ms !== null) parts.push(`in ${span(outcome.took_ms / 1000)}`);
  if (outcome.attempt > 1) parts.push(`attempt ${outcome.attempt}`);
  if (outcome.state === "parked") parts.push("no executor knows this name");
  else if (outcome.next_attempt_at && Date.parse(outcome.next_attempt_at) > now()) parts.push(`next at ${clock(outcome.next_attempt_at)}`);
  if (outcome.reason) parts.push(outcome.reason.length > 160 ? `${outcome.reason.slice(0, 160)}…` : outcome.reason);
  return parts.join(", ");
}
