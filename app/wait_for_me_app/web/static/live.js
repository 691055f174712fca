// What the page knows, kept up to date by the stream. Views read `state` and are told when it changes.

import { learn } from "./time.js";

export const state = {
  about: null, groups: new Map(), meta: null, more: false, stats: null, window: null, fires: new Map(), letters: new Map(),
  connection: "connecting", since: null, heard: 0, paused: false, fresh: new Set(), seen: new Map(),
};

const SILENCE_MS = 12000; // the worker's heart beats every 5 s

const listeners = new Set();
export function onChange(listener) { listeners.add(listener); return () => listeners.delete(listener); }
let queued = false;
function changed() {
  if (state.paused || queued) return;
  queued = true;
  setTimeout(() => { queued = false; if (!state.paused) for (const listener of listeners) listener(); }, 60);
}

let source = null, tried = 0;
export function connect() {
  close();
  tried = Date.now();
  source = new EventSource("/api/v1/stream");
  source.onerror = () => {
    lost();
    if (source && source.readyState === EventSource.CLOSED) setTimeout(() => state.connection === "off" && !document.hidden && connect(), 3000);
  };
  for (const [name, take] of Object.entries(takers)) source.addEventListener(name, (event) => { heard(); take(JSON.parse(event.data)); changed(); });
}
function heard() { state.connection = "on"; state.heard = Date.now(); }
function lost() {
  if (state.connection === "on") state.since = new Date(state.heard).toISOString();
  state.connection = "off";
  changed();
}
setInterval(() => { // a worker that hangs keeps its connections open and says nothing, not even that it lives
  if (state.paused || document.hidden || !source || Date.now() - Math.max(state.heard, tried) < SILENCE_MS) return;
  lost();
  connect();
}, 1000);
export function close() { if (source) source.close(); source = null; }

export function pause(wanted) {
  state.paused = wanted;
  if (wanted) close(); else connect();
  for (const listener of listeners) listener();
}

document.addEventListener("visibilitychange", () => { // nobody looks: the worker need not look either
  if (state.paused) return;
  if (document.hidden) close(); else connect();
});

const takers = {
  snapshot(data) {
    state.groups = new Map(data.groups.map((group) => [group.group_key, group]));
    state.fires = new Map(data.fires.map((fire) => [fire.fire_id, fire]));
    state.letters = new Map(data.dead_letters.map((letter) => [letter.id, letter]));
    Object.assign(state, { meta: data.meta, more: data.more, stats: data.stats, window: data.window });
    learn(data.meta?.now_ms);
  },
  groups(data) {
    for (const key of data.gone) state.groups.delete(key);
    for (const group of data.changed) state.groups.set(group.group_key, group);
    Object.assign(state, { meta: data.meta, more: data.more });
    learn(data.meta.now_ms);
  },
  stats(data) { state.stats = data.stats; state.window = data.window; learn(data.now_ms); },
  fire(fire) {
    if (!state.fires.has(fire.fire_id)) state.fresh.add(fire.fire_id);
    state.fires.set(fire.fire_id, fire);
    if (state.fires.size > 400) state.fires.delete([...state.fires.keys()][0]);
  },
  beat() {},
  dead_letter(letter) { state.letters.set(letter.id, letter); },
};
