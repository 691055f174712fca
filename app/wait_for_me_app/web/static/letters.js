// What was set aside, why, and sending it again.

import { h, keyed, toast } from "./dom.js";
import { ask, letter as letterPath } from "./api.js";
import { state } from "./live.js";
import { clock, ago } from "./time.js";
import { keyText, mover } from "./shared.js";
import { confirmDialog } from "./dialogs.js";

export function lettersView() {
  const chosen = new Set();
  const list = h("div", { class: "list" }), empty = h("div");
  const retryAll = h("button", { type: "button", disabled: true, onclick: retryChosen }, "Retry selected");
  const all = h("input", { type: "checkbox", "aria-label": "Select all that can be retried" });
  all.addEventListener("change", () => { chosen.clear(); if (all.checked) for (const letter of state.letters.values()) if (letter.can_retry && !letter.handled) chosen.add(letter.id); for (const box of list.querySelectorAll("input")) box.checked = chosen.has(box.value); count(); });
  const tools = h("div", { class: "actions", style: { margin: "0", alignItems: "center" } }, h("label", { class: "check", title: "Select all" }, all), retryAll);
  const root = h("section", {}, h("div", { class: "toolbar" }, h("h1", {}, "Dead letters"), h("div", { class: "grow" }), tools), list, empty);

  function count() { retryAll.disabled = !chosen.size; retryAll.textContent = chosen.size ? `Retry ${chosen.size} selected` : "Retry selected"; }

  async function act(id, handled) {
    try {
      await (handled === "retried" ? ask(`${letterPath(id)}/retry`, "POST") : ask(letterPath(id), "DELETE"));
      const letter = state.letters.get(id);
      if (letter) state.letters.set(id, { ...letter, handled });
      chosen.delete(id);
      return true;
    } catch (problem) { toast(problem.message, true); return false; }
  }

  function discard(id) {
    confirmDialog("Discard this dead letter?", "It is marked as dealt with. Its bytes stay in the topic until retention deletes them; nothing is sent.", "Discard", async () => { if (await act(id, "discarded")) toast("Discarded"); draw(); });
  }

  function retryChosen() {
    const ids = [...chosen];
    confirmDialog(`Retry ${ids.length} dead letter${ids.length === 1 ? "" : "s"}?`, "Each is sent once more, as it came: a command is judged anew, a fire runs its callback again. What was wrong is wrong still, unless something has changed.", "Retry", async () => {
      let sent = 0;
      for (const id of ids) if (await act(id, "retried")) sent += 1;
      if (sent) toast(`${sent} sent again`);
      count(); draw();
    });
  }

  function draw() {
    const letters = [...state.letters.values()].sort((a, b) => Number(Boolean(a.handled)) - Number(Boolean(b.handled)) || (a.at < b.at ? 1 : -1)).slice(0, 100);
    keyed(list, letters, (letter) => letter.id, row);
    list.hidden = !letters.length;
    tools.hidden = !letters.length || state.about?.read_only;
    empty.replaceChildren(letters.length || !state.meta ? "" : h("div", { class: "empty list" }, h("svg", { viewBox: "0 0 100 100", class: "ring complete", "aria-hidden": "true" }, h("circle", { cx: 50, cy: 50, r: 42, class: "in" }), h("path", { d: "M32 51l13 13 24-27", class: "in" })),
      h("h2", {}, "No dead letters"), h("p", {}, "A command that cannot be read, or a callback that was given up, would be here with its bytes, its origin and the reason.")));
    count();
  }

  function row(letter) {
    const box = h("input", { type: "checkbox", value: letter.id, "aria-label": `Select ${letter.id}`, disabled: !letter.can_retry || Boolean(letter.handled) || state.about?.read_only });
    box.checked = chosen.has(letter.id);
    box.addEventListener("change", () => { if (box.checked) chosen.add(letter.id); else chosen.delete(letter.id); count(); });
    const why = letter.can_retry ? null : "It cannot be sent again: only a part of it was kept, or it does not say where it came from.";
    const busy = (event) => { event.target.disabled = true; };
    return h("article", { class: letter.handled ? "letter handled" : "letter" }, h("label", { class: "check" }, box),
      h("div", {}, h("h2", {}, h("span", { class: "pill dead" }, `${letter.stage}: ${letter.error}`), letter.group_key ? keyText(letter.group_key) : h("span", { class: "muted" }, "no key"), h("time", { class: "muted", datetime: letter.at, title: clock(letter.at, true) }, ago(letter.at))),
        h("p", {}, letter.message), h("p", { class: "where" }, `${letter.id} from ${letter.origin}`, letter.fire_id ? ` · ${letter.fire_id}` : "", letter.delivery_count > 1 ? ` · tried ${letter.delivery_count} times` : ""),
        h("details", {}, h("summary", { "data-focus": "bytes" }, letter.payloads_hidden ? `${letter.value_bytes} bytes, hidden` : `${letter.value_bytes} bytes`), letter.value === null ? null : h("pre", { tabindex: 0 }, letter.value)), why ? h("p", { class: "note" }, why) : null),
      h("div", { class: "act" }, letter.handled ? h("span", { class: "pill" }, letter.handled === "retried" ? "sent again" : "discarded") : state.about?.read_only ? null : [
        letter.can_retry ? h("button", { type: "button", "data-focus": "retry", onclick: async (event) => { busy(event); if (await act(letter.id, "retried")) toast("Sent again"); draw(); } }, "Retry") : null,
        h("button", { type: "button", class: "quiet", "data-focus": "discard", "aria-label": `Discard ${letter.id}`, onclick: () => discard(letter.id) }, "Discard")]));
  }

  draw();
  return { root, title: "Dead letters", draw, move: mover(root, ".letter .act button:first-child"), leave() {} };
}
