// Pieces that several views use.

import { h, icon, ICONS, copy } from "./dom.js";
import { clock } from "./time.js";

export const WORD = { waiting: "waiting", complete: "complete", timeout: "timed out", removed: "removed" };
export const OUTCOME = { accepted: "queued", started: "running", parked: "unknown callback", failed: "failed, will retry", done: "done", dead: "given up" };

export function pill(state, word) { return h("span", { class: `pill ${state}` }, word || WORD[state] || state); }
export function keyText(key) { return h("span", { class: "key" }, key); }
export function groupLink(key) { return h("a", { class: "key", href: `#/group/${encodeURIComponent(key)}`, "data-focus": "open" }, key); }
export function mover(root, selector) { // j and k go from one to the next
  return (by) => {
    const all = [...root.querySelectorAll(selector)], at = all.indexOf(document.activeElement);
    const next = all[at < 0 ? 0 : Math.max(0, Math.min(all.length - 1, at + by))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  };
}
export function address(url) { return (url || "").replace(/\/#.*$/, "").replace(/^https?:\/\//, ""); }

export function pips(group, before) {
  const of = group.number_of_participants_in_group, here = Math.min(group.arrived_count, of);
  const label = `${group.arrived_count} of ${of} have arrived`;
  if (of > 24) return h("div", { class: "pips gauge", role: "img", "aria-label": label }, h("i", { style: { width: `${(100 * here) / of}%` } }));
  return h("div", { class: "pips", role: "img", "aria-label": label }, Array.from({ length: of }, (_, n) => h("i", { class: n < here ? (before !== undefined && n >= before ? "in new" : "in") : null })));
}

export function chips(group, most) {
  const shown = group.arrived.slice(0, most), hidden = group.arrived_count - shown.length;
  return h("div", { class: "chips" },
    shown.map((one) => h("span", { class: "chip", title: `arrived ${clock(one.at, true)}` }, one.participant_key)),
    hidden > 0 ? h("span", { class: "muted" }, `and ${hidden} more`) : null,
    group.missing_count > 0 ? h("span", { class: "missing" }, `${group.missing_count} missing`) : null);
}

export function searchBox(value, onInput, label) {
  const input = h("input", { type: "search", id: "search", value, placeholder: label, "aria-label": label, autocomplete: "off", spellcheck: "false", maxlength: 200 });
  input.addEventListener("input", () => onInput(input.value));
  return h("div", { class: "search" }, icon(...ICONS.search), input, h("kbd", { "aria-hidden": "true" }, "/"));
}

export function ring(count, of, state = "waiting") {
  const segments = Math.min(of, 60), gap = of === 1 ? 0 : Math.min(0.16, 2.2 / segments), filled = of > 60 ? Math.round((60 * count) / of) : Math.min(count, of);
  const arc = (n) => {
    const from = (2 * Math.PI * n) / segments - Math.PI / 2 + gap / 2, to = (2 * Math.PI * (n + 1)) / segments - Math.PI / 2 - gap / 2;
    if (segments === 1) return "M50 8a42 42 0 1 1-.01 0";
    return `M${50 + 42 * Math.cos(from)} ${50 + 42 * Math.sin(from)}A42 42 0 0 1 ${50 + 42 * Math.cos(to)} ${50 + 42 * Math.sin(to)}`;
  };
  return h("svg", { viewBox: "0 0 100 100", class: `ring ${state}`, role: "img", "aria-label": `${count} of ${of} have arrived` },
    Array.from({ length: segments }, (_, n) => h("path", { d: arc(n), class: n < filled ? "in" : "t" })),
    h("text", { x: 50, y: 54 }, String(count)), h("text", { x: 50, y: 71, class: "of" }, `of ${of}`));
}

export function emptyRing() {
  return h("svg", { viewBox: "0 0 100 100", class: "ring", "aria-hidden": "true" }, h("circle", { cx: 50, cy: 50, r: 42, class: "t", "stroke-dasharray": "34 10" }));
}

export function copyable(text) {
  return h("div", { class: "copyable" }, h("code", {}, text), h("button", { type: "button", onclick: () => copy(text, "Command") }, "Copy"));
}

export function shell(text) { return /^[A-Za-z0-9._:/@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`; }
