// One group: the verdict in a sentence, its round as a line in time, and its log as the worker judged it.

import { h, copy, replace } from "./dom.js";
import { ask, group as groupPath, events as eventsPath } from "./api.js";
import { state } from "./live.js";
import { left, now, clock, span, ago } from "./time.js";
import { pill, ring, OUTCOME, shell } from "./shared.js";
import { addDialog, removeDialog } from "./dialogs.js";

const ASK_AGAIN_MS = 3000;

export function groupView(route) {
  const key = route.name;
  const root = h("section", {}, h("p", { class: "crumb" }, h("a", { href: "#/waiting" }, "← Waiting")), h("p", { class: "note", role: "status" }, "Asking the worker that has it"));
  let group = null, history = null, problem = null, reading = false, asked = 0, sentence = null, over = false, unanswered = 0;

  async function load() {
    const mine = ++asked;
    const known = ask(groupPath(key)).catch((fault) => fault), told = ask(eventsPath(key)).catch((fault) => fault);
    const first = await known; // the row is there at once; the log may take a moment
    if (mine !== asked || over) return;
    group = first instanceof Error ? null : first;
    if (group) { problem = null; reading = !history; draw(); }
    const second = await told;
    if (mine !== asked || over) return;
    reading = false;
    history = second instanceof Error ? null : second;
    problem = group || history?.events.length ? null : first;
    unanswered = [first, second].some((one) => one instanceof Error && one.status !== 404) ? Date.now() : 0;
    draw();
  }

  function draw() {
    const crumb = h("p", { class: "crumb" }, h("a", { href: "#/waiting" }, "← Waiting"));
    if (problem) { replace(root, crumb, h("div", { class: "head" }, h("h1", { class: "key" }, key)), h("div", { class: "panel" }, h("p", {}, problem.message), problem.status === 404 ? h("div", { class: "actions" }, addOne(), askAgain()) : h("p", { class: "note", role: "status" }, "Asking again every few seconds."))); return; }
    const round = roundOf(group, history);
    sentence = h("p", { class: "sentence" });
    replace(root, crumb,
      h("div", { class: "head" }, ring(round.arrived, round.of, round.state), h("div", {}, h("h1", { class: "key" }, key), sentence)),
      actions(), line(round, history), arrivals(), facts(round), fired(), feed());
    tick();
  }

  function askAgain() { return h("button", { type: "button", onclick: load }, "Ask again"); }
  function addOne(newest) {
    return state.about?.read_only ? null : h("button", { type: "button", class: "primary", onclick: () => addDialog({ group_key: key, ...(newest || {}), ...(group || {}), participant_key: "" }, load) }, "Add a participant");
  }

  function tick() {
    if (!sentence) return;
    if (group?.state === "waiting") {
      const ms = group.deadline_ms - now();
      sentence.replaceChildren(pill("waiting"), " for ", h("b", {}, `${group.missing_count} more ${group.missing_count === 1 ? "participant" : "participants"}`), ". ",
        ms > 0 ? h("span", {}, `Fires without ${group.missing_count === 1 ? "it" : "them"} in `, h("b", { class: "num" }, left(ms)), ".") : state.connection === "on" ? "Its time is up: it fires now." : "Its time is up.");
    } else {
      const round = roundOf(group, history);
      sentence.replaceChildren(pill(round.state), " ", round.says, group?.frees_at && Date.parse(group.frees_at) > now() ? ` Adds are late until ${clock(group.frees_at)}.` : "");
    }
  }

  function actions() {
    const newest = history?.events.filter((event) => event.kind === "add").at(-1);
    const curl = `curl -s ${shell(`${location.origin}/api/v1/group?group_key=${encodeURIComponent(key)}`)}`;
    return h("div", { class: "actions" },
      addOne(newest),
      state.about?.read_only || group?.state !== "waiting" ? null : h("button", { type: "button", class: "danger", onclick: () => removeDialog(key, load) }, "Remove the wait"),
      h("button", { type: "button", onclick: () => copy(JSON.stringify({ group, history }, null, 2), "Group with its history") }, "Copy as JSON"),
      h("button", { type: "button", onclick: () => copy(curl, "Command") }, "Copy as curl"));
  }

  function arrivals() {
    if (!group || group.state !== "waiting") return null;
    return h("div", { class: "panel" }, h("h2", {}, "Who has arrived", h("small", {}, `${group.arrived_count} of ${group.number_of_participants_in_group}`)),
      h("div", { class: "chips" }, group.arrived.slice(0, 200).map((one) => h("span", { class: "chip", title: clock(one.at, true) }, one.participant_key, h("time", { datetime: one.at }, clock(one.at)))),
        group.arrived_count > 200 ? h("span", { class: "muted" }, `and ${group.arrived_count - 200} more`) : null,
        h("span", { class: "missing" }, `${group.missing_count} missing`)));
  }

  function facts(round) {
    const fact = (name, value, more, wide) => value === null || value === undefined ? null : h("div", { class: wide || null }, h("dt", {}, name), h("dd", {}, value, more ? h("small", {}, more) : null));
    const add = history?.events.filter((event) => event.kind === "add").at(-1) || {};
    const params = group?.payloads_hidden ? "hidden" : group?.execute_after_waiting_params == null ? null : JSON.stringify(group.execute_after_waiting_params);
    return h("div", { class: "panel" }, h("h2", {}, "Facts"), h("dl", { class: "facts" },
      fact("Then it runs", group?.execute_after_waiting || add.execute_after_waiting ? h("code", {}, group?.execute_after_waiting || add.execute_after_waiting) : null, params, "wide-when-narrow"),
      fact("Wait", span(group?.wait_time_in_seconds ?? add.wait_time_in_seconds), "after the last arrival"),
      fact("At most", group?.max_wait_in_seconds ? span(group.max_wait_in_seconds) : null, "from its opening"),
      fact("Opened", round.opened ? ago(round.opened) : null, round.opened ? clock(round.opened, true) : null),
      fact(group?.state === "waiting" ? "Deadline" : "Ended", group?.deadline_at || round.closed ? clock(group?.deadline_at || round.closed, true) : null),
      fact("Lingers", group ? span(group.linger_in_seconds) : null, "closed, before its name is free"),
      fact("Late adds", group?.late_count || null), fact("Conflicting adds", group?.conflict_count || null, group?.conflict_count ? "the newest one's settings hold" : null),
      fact("Partition", group?.partition ?? history?.partition, group ? `opened at offset ${group.opened_offset}` : null),
      fact("Fire id", group ? h("code", {}, group.fire_id) : null, group?.state === "waiting" ? "that it will have" : null, "wide")));
  }

  function fired() {
    const fire = group ? state.fires.get(group.fire_id) : [...state.fires.values()].find((one) => one.group_key === key);
    if (!fire) return null;
    const outcome = fire.outcome;
    return h("div", { class: "panel" }, h("h2", {}, "Callback", h("small", {}, fire.execute_after_waiting)),
      outcome ? h("p", {}, pill(outcome.state, OUTCOME[outcome.state]), ` attempt ${outcome.attempt}`, outcome.took_ms != null ? `, took ${span(outcome.took_ms / 1000)}` : "", outcome.reason ? `: ${outcome.reason}` : "") : h("p", { class: "muted" }, "No executor has taken this fire yet. Is one running? wait-for-me executor --callbacks MODULE"));
  }

  function feed() {
    if (!history && reading) return h("div", { class: "panel" }, h("h2", {}, "History"), h("p", { class: "muted", role: "status" }, "Reading the log"));
    if (!history) return h("div", { class: "panel" }, h("h2", {}, "History"), h("p", { class: "muted", role: "status" }, "The log could not be read just now. Asking again every few seconds."));
    const items = history.events.map(told).reverse();
    return h("div", { class: "panel" }, h("h2", {}, "History", h("small", {}, history.is_complete ? `judged again from ${history.records_read} records` : `cut: ${history.records_read} records read, from offset ${history.first_offset}`)),
      items.length ? h("ol", { class: "feed" }, items) : h("p", { class: "muted" }, "Its log is empty or has been deleted by retention."));
  }

  const timer = setInterval(() => {
    tick();
    if (unanswered && Date.now() - unanswered > ASK_AGAIN_MS && !document.hidden && !state.paused) { unanswered = 0; load(); }
  }, 200);
  let last = "";
  load();
  return {
    root, title: key, leave: () => { over = true; clearInterval(timer); },
    draw() {
      const live = state.groups.get(key), fire = group ? state.fires.get(group.fire_id) : null;
      const sign = JSON.stringify([live, fire]);
      if (sign !== last) { last = sign; load(); }
    },
  };
}

function roundOf(group, history) {
  const events = lastRound(history?.events || []);
  const close = events.findLast((event) => event.kind === "close");
  const newest = events.findLast((event) => event.kind === "add" && event.effect !== "late");
  const count = events.filter((event) => ["opened", "joined"].includes(event.effect)).length;
  const of = group?.number_of_participants_in_group ?? newest?.number_of_participants_in_group ?? 1;
  const arrived = group?.arrived_count ?? count;
  const stateWord = group?.state || close?.effect || "waiting";
  const says = { complete: `All ${of} have arrived.`, timeout: `Fired with ${arrived} of ${of}; ${of - arrived} did not arrive in time.`, removed: `The wait was ended by a remove; nothing has fired.`, waiting: "" }[stateWord];
  return { state: stateWord, arrived, of, says, opened: group?.opened_at || events.find((event) => event.effect === "opened")?.at, closed: group?.closed_at || close?.at };
}

function lastRound(events) {
  const start = events.findLastIndex((event) => event.effect === "opened");
  return start < 0 ? events : events.slice(start);
}

function line(round, history) {
  const adds = lastRound(history?.events || []).filter((event) => event.kind === "add" && ["opened", "joined", "refreshed"].includes(event.effect));
  if (!adds.length) return null;
  const close = round.state === "waiting" ? null : Date.parse(round.closed);
  const from = adds[0].at_ms, end = close || Date.parse(adds.at(-1).deadline_at || 0) || from + 1000, to = Math.max(end, from + 1);
  const at = (ms) => `${Math.max(0, Math.min(100, (100 * (ms - from)) / (to - from)))}%`;
  const until = close || Math.min(now(), to);
  const named = [], room = (to - from) * (innerWidth < 640 ? 0.3 : 0.14);
  for (const one of adds) if (!named.length || one.at_ms - named.at(-1).at_ms > room) named.push(one);
  return h("div", { class: "panel" }, h("h2", {}, "Round", h("small", {}, `${span((until - from) / 1000)} ${close ? "from the first arrival to the end" : "so far"}`)),
    h("div", { class: `line ${round.state}`, role: "img", "aria-label": `${adds.length} adds from ${clock(adds[0].at)} to ${clock(adds.at(-1).at)}; ${close ? "ended" : "deadline"} ${clock(new Date(to).toISOString())}` },
      h("div", { class: "track" }), h("div", { class: "span", style: { width: at(until) } }), h("div", { class: "end", style: { left: "100%" } }),
      adds.map((one) => h("div", { class: one.effect === "refreshed" ? "at again" : "at", style: { left: at(one.at_ms) }, title: `${one.participant_key} ${one.effect} ${clock(one.at, true)}` })),
      named.map((one, n) => h("div", { class: `says up${n === 0 ? " first" : ""}`, style: { left: at(one.at_ms) } }, one.participant_key)),
      h("div", { class: "says down first", style: { left: "0" } }, clock(adds[0].at)), h("div", { class: "says down last", style: { left: "100%" } }, `${close ? "" : "deadline "}${clock(new Date(to).toISOString())}`)));
}

function told(event) {
  const name = event.participant_key ? h("b", { class: "key" }, event.participant_key) : null;
  const until = event.deadline_at ? h("span", { class: "muted" }, ` Deadline moves to ${clock(event.deadline_at)}.`) : null;
  const conflict = event.changed_settings ? h("span", { class: "missing" }, " It changed what the group waits for.") : null;
  const words = {
    opened: [name, " opened the round.", until], joined: [name, " arrived.", until, conflict], refreshed: [name, " was heard of again.", until, conflict],
    duplicate: [name, " was sent twice; the copy changed nothing."], late: [name, " came late; the round had ended."], complete: ["All have arrived: it fired."],
    timeout: ["Nobody else came in time: it fired without the missing."], removed: ["The round ended without a fire."], "ends the wait": ["Remove", event.reason ? `: ${event.reason}` : "."],
    nothing: [event.kind === "remove" ? "Remove; nobody was waiting." : [name, " changed nothing."]], "set aside": ["A record was set aside: ", event.reason],
  }[event.effect] || [event.effect];
  const bead = event.kind === "close" ? "bead close" : event.kind === "invalid" ? "bead bad" : ["duplicate", "late", "nothing", "refreshed"].includes(event.effect) ? "bead dull" : "bead";
  return h("li", {}, h("time", { class: "when", datetime: event.at }, clock(event.at, true)), h("span", { class: bead, "aria-hidden": "true" }), h("span", { class: "what" }, words),
    h("span", { class: "where", title: event.traceparent ? `trace ${event.traceparent}` : null }, `${event.partition}:${event.offset}`));
}
