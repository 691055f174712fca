// Talks to the worker. Problems come back as documents whose `detail` ends with what to do; it is shown as it is.

export class Problem extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}

export async function ask(path, method = "GET", body = undefined) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: { "X-Wait-For-Me": "page", ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Problem(0, "The worker cannot be reached. It may be restarting; try again in a moment.");
  }
  const document = answer.status === 204 ? {} : await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, document.detail || `The worker answered ${answer.status}.`);
  return document;
}

export const group = (key) => `/api/v1/group?group_key=${encodeURIComponent(key)}`;
export const events = (key) => `/api/v1/group/events?group_key=${encodeURIComponent(key)}`;
export const participants = (key) => `/api/v1/group/participants?group_key=${encodeURIComponent(key)}`;
export const letter = (id) => `/api/v1/dead-letters/${encodeURIComponent(id)}`;
