// Dialogs: adding, removing, confirming. The browser's own <dialog> keeps focus inside and gives it back.

import { h, toast } from "./dom.js";
import { ask, participants, group as groupPath } from "./api.js";

function open(content, onClose) {
  const opener = document.activeElement;
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, content);
  dialog.addEventListener("close", () => { dialog.remove(); if (opener?.isConnected) opener.focus(); onClose?.(); });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function confirmDialog(title, text, word, act, danger = false) {
  const yes = h("button", { type: "button", class: danger ? "danger primary" : "primary" }, word);
  const dialog = open([h("h2", { id: "dialog-title" }, title), h("p", {}, text), h("div", { class: "dialog-actions" }, h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Cancel"), yes)]);
  yes.addEventListener("click", () => { dialog.close(); act(); });
}

export function removeDialog(key, after) {
  confirmDialog(`Remove the wait of ${key}?`, "The group ends now and nothing is run. Adds that still come are late until it has lingered.", "Remove the wait", async () => {
    try { await ask(groupPath(key), "DELETE", { reason: "removed from the page" }); toast(`The wait of ${key} is being removed`); setTimeout(() => after?.(), 300); }
    catch (problem) { toast(problem.message, true); }
  }, true);
}

export function addDialog(given = {}, after) {
  const field = (name, label, attributes = {}, wide = false) => { const input = h(attributes.rows ? "textarea" : "input", { name, ...attributes }); input.value = attributes.value ?? ""; return h("label", { class: wide ? "wide" : null }, label, input); };
  const known = Boolean(given.group_key);
  const error = h("p", { class: "error", role: "alert" });
  const params = given.execute_after_waiting_params == null ? "[]" : JSON.stringify(given.execute_after_waiting_params);
  const text = { required: true, autocomplete: "off", spellcheck: "false" };
  const form = h("form", { method: "dialog", novalidate: true }, h("h2", { id: "dialog-title" }, "Add a participant"), h("p", {}, "The same command that a service would send. When all have arrived, or nobody has for the wait time, the callback runs once."),
    h("div", { class: "fields" }, field("group_key", "Group", { ...text, value: given.group_key ?? "deploy-42", maxlength: 256 }, true), field("participant_key", "Participant that has finished", { ...text, value: given.participant_key ?? "web-1", maxlength: 256, autofocus: true }, true),
      field("number_of_participants_in_group", "Of how many", { type: "number", min: 1, max: 100000, value: given.number_of_participants_in_group ?? 3, required: true }), field("wait_time_in_seconds", "Wait, in seconds", { type: "number", min: 0.001, step: "any", value: given.wait_time_in_seconds ?? 60, required: true }),
      field("execute_after_waiting", "Callback to run", { ...text, value: given.execute_after_waiting ?? "cloudfront.invalidate", maxlength: 128 }, true), field("execute_after_waiting_params", given.payloads_hidden ? "Its parameters, JSON (the group’s own are hidden)" : "Its parameters, JSON", { rows: 2, value: params, spellcheck: "false" }, true)),
    error, h("div", { class: "dialog-actions" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Add")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const data = Object.fromEntries(new FormData(form));
    const button = form.querySelector("[type=submit]");
    try {
      const bad = [...form.elements].find((one) => one.willValidate && !one.checkValidity());
      if (bad) { bad.focus(); throw new Error(`${bad.closest("label").firstChild.textContent}: ${bad.validationMessage}`); }
      let value;
      try { value = JSON.parse(data.execute_after_waiting_params || "[]"); } catch (fault) { throw new Error(`The parameters are no JSON (${fault.message}). A text needs quotation marks.`); }
      button.disabled = true;
      await ask(participants(data.group_key), "POST", { participant_key: data.participant_key, number_of_participants_in_group: Number(data.number_of_participants_in_group), wait_time_in_seconds: Number(data.wait_time_in_seconds), execute_after_waiting: data.execute_after_waiting, execute_after_waiting_params: value, ...(known && given.max_wait_in_seconds ? { max_wait_in_seconds: given.max_wait_in_seconds } : {}), event_id: crypto.randomUUID ? crypto.randomUUID() : undefined });
      dialog.close();
      toast(`${data.participant_key} added to ${data.group_key}`);
      setTimeout(() => after?.(), 300);
    } catch (problem) { error.textContent = problem.message; button.disabled = false; }
  });
  const dialog = open(form);
}

export function helpDialog() {
  const keys = [["/", "search"], ["1 2 3 4", "waiting, fired, dead letters, partitions"], ["j k", "next, previous"], ["Enter", "open it"], ["a", "add a participant"], ["p", "pause and go on"], ["t", "theme"], ["Esc", "close, or back to the list"]];
  const dialog = open([h("h2", { id: "dialog-title" }, "Keyboard"), h("dl", { class: "keys" }, keys.map(([key, what]) => [h("dt", {}, key.split(" ").map((one) => [h("kbd", {}, one), " "])), h("dd", {}, what)])), h("div", { class: "dialog-actions" }, h("button", { type: "button", autofocus: true, onclick: () => dialog.close() }, "Close"))]);
}
