// Partitions: who folds each, how far it is, and what is due next.

import { h } from "./dom.js";
import { ask } from "./api.js";
import { state } from "./live.js";
import { clock, left, now } from "./time.js";
import { address } from "./shared.js";

export function partitionsView() {
  const body = h("tbody"), note = h("p", { class: "note" });
  const root = h("section", {}, h("div", { class: "toolbar" }, h("h1", {}, "Partitions")), h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Partitions" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Partition"), h("th", { scope: "col" }, "Worker"), ["Folded to", "Log ends at", "Lag", "Waiting"].map((name) => h("th", { scope: "col", class: "num" }, name)), h("th", { scope: "col" }, "Next deadline"))), body)), note);
  let over = false;

  async function load() {
    if (document.hidden || state.paused) return;
    try {
      const answer = await ask("/api/v1/partitions");
      if (over) return;
      body.replaceChildren(...answer.partitions.map(row));
      note.textContent = `${answer.meta.workers_answered} of ${answer.meta.workers_known} ${answer.meta.workers_known === 1 ? "worker" : "workers"} answered. A group is always on the partition that its name hashes to.`;
    } catch (problem) { note.textContent = problem.message; }
  }

  function row(one) {
    const number = (value) => (value === null ? "–" : value.toLocaleString());
    const ms = one.next_deadline_at ? Date.parse(one.next_deadline_at) - now() : null;
    return h("tr", { class: one.worker === null ? "lost" : null }, h("td", { "data-label": "Partition" }, h("b", {}, String(one.partition))),
      h("td", { "data-label": "Worker" }, one.worker === null ? h("b", {}, "does not answer") : one.worker, h("small", {}, address(one.url) || "nobody has it"), one.standbys.length ? h("small", {}, `standby ${one.standbys.map(address).join(", ")}`) : null),
      h("td", { class: "num", "data-label": "Folded to" }, one.watermark === -1 ? "nothing yet" : number(one.watermark)), h("td", { class: "num", "data-label": "Log ends at" }, number(one.end_offset)),
      h("td", { class: "num", "data-label": "Lag" }, one.lag > 0 ? h("b", {}, number(one.lag)) : number(one.lag)), h("td", { class: "num", "data-label": "Waiting" }, number(one.waiting)),
      h("td", { class: "wide", "data-label": "Next deadline" }, ms === null ? "–" : [ms > 0 ? `in ${left(ms)}` : "due", h("small", {}, clock(one.next_deadline_at, true))]));
  }

  const timer = setInterval(load, 2000);
  load();
  return { root, title: "Partitions", draw() {}, leave: () => { over = true; clearInterval(timer); } };
}
