// Times as people read them. `now` is the broker's clock, learned from the server, not this machine's.

let ahead = 0;
export function learn(nowMs) { if (nowMs) ahead = nowMs - Date.now(); }
export function now() { return Date.now() + ahead; }

export function left(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${(Math.floor(s * 10) / 10).toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${Number(seconds.toFixed(seconds < 10 ? 1 : 0))} s`;
  if (seconds < 3600) { const m = Math.floor(Math.round(seconds) / 60), s = Math.round(seconds) % 60; return s ? `${m} min ${s} s` : `${m} min`; }
  if (seconds < 86400) return `${Number((seconds / 3600).toFixed(1))} h`;
  return `${Number((seconds / 86400).toFixed(1))} d`;
}

export function ago(text) {
  const s = (now() - Date.parse(text)) / 1000;
  if (s < 1.5) return "just now";
  return s < 60 ? `${Math.round(s)} s ago` : s < 3600 ? `${Math.round(s / 60)} min ago` : s < 86400 ? `${Math.round(s / 3600)} h ago` : clock(text);
}

export function clock(text, withMs = false) {
  const at = new Date(text);
  const day = new Date(now()).toDateString() === at.toDateString() ? "" : `${at.toLocaleDateString(undefined, { month: "short", day: "numeric" })} `;
  return day + at.toLocaleTimeString(undefined, { hour12: false }) + (withMs ? `.${String(at.getMilliseconds()).padStart(3, "0")}` : "");
}
