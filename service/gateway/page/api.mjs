// What the page asks of /api/v1. The key lives in the tab alone, and goes out in a header only.

const VIDEOS = "/api/v1/videos";
const KEPT_AS = "wan_relay_key";
const SILENCE_MS = 40_000; // the gateway speaks at least every 15 s

/** A refusal in the gateway's words; status 0 where none came at all. */
export class ApiError extends Error {
  /** @param {number} status @param {ApiProblem} problem @param {number | undefined} retryAfterS */
  constructor(status, problem, retryAfterS = undefined) {
    super(problem.message);
    this.status = status;
    this.problem = problem;
    this.retryAfterS = retryAfterS;
  }
}

export const hasKey = () => Boolean(sessionStorage.getItem(KEPT_AS));
export const forgetKey = () => sessionStorage.removeItem(KEPT_AS);

/** The user said "not now": what the page does by itself asks no more, until the user does something. */
let isDeclined = false;
export const isKeyDeclined = () => isDeclined;
export const allowAsking = () => void (isDeclined = false);

/** @type {(isWrong: boolean) => Promise<string | undefined>} */
let askForKey = async () => undefined;
/** @type {Promise<boolean> | undefined} */
let asking;

/** `ask` is called when the gateway wants a key, or another one. @param {typeof askForKey} ask */
export const onKeyNeeded = (ask) => (askForKey = ask);

/** One question, however many requests wait for its answer. @param {string | null} refused */
async function newKey(refused) {
  if (sessionStorage.getItem(KEPT_AS) !== refused) return true;
  if (isDeclined) return false;
  asking ??= askForKey(refused !== null).then((key) => {
    asking = undefined;
    if (key) sessionStorage.setItem(KEPT_AS, key);
    isDeclined = !key;
    return Boolean(key);
  });
  return await asking;
}

/**
 * @param {string} path @param {RequestInit} init
 * @returns {Promise<Response>} an answer that is no refusal
 */
async function request(path, init = {}) {
  const key = sessionStorage.getItem(KEPT_AS);
  const headers = { ...init.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(VIDEOS + path, { ...init, headers, cache: "no-store" });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, { code: "UNREACHABLE", message: "", field: null });
  }
  if (response.ok) return response;
  if (response.status === 401 && (await newKey(key))) return await request(path, init);
  throw await refusal(response);
}

/** @param {Response} response */
async function refusal(response) {
  const said = await response.json().catch(() => undefined);
  const isOurs = typeof said?.error?.code === "string";
  const problem = isOurs ? said.error : { code: "UNREACHABLE", message: `HTTP ${response.status}`, field: null };
  return new ApiError(response.status, problem, Number(response.headers.get("Retry-After")) || undefined);
}

/**
 * Ask for a video. The same `submitId` again is the same video.
 * @param {string} order VideoOrder as JSON @param {string} submitId @returns {Promise<VideoTask>}
 */
export async function submit(order, submitId) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": submitId };
  return await (await request("", { method: "POST", headers, body: order })).json();
}

/** @param {string} id @param {AbortSignal} [signal] @returns {Promise<VideoTask>} */
export const get = async (id, signal) => (await request(`/${encodeURIComponent(id)}`, { signal })).json();

/** Cancels what runs, deletes what has ended. @param {string} id */
export const remove = (id) => request(`/${encodeURIComponent(id)}`, { method: "DELETE" });

/**
 * The video after each change, to its end or until the connection breaks. EventSource could send no key.
 * @param {string} id @param {AbortSignal} signal
 * @returns {AsyncGenerator<VideoTask, void>}
 */
export async function* events(id, signal) {
  const ended = new AbortController();
  const silence = { timer: setTimeout(() => ended.abort(), SILENCE_MS) };
  const response = await request(`/${encodeURIComponent(id)}/events`, { signal: AbortSignal.any([signal, ended.signal]) });
  try {
    for await (const data of sentEvents(response)) {
      clearTimeout(silence.timer);
      silence.timer = setTimeout(() => ended.abort(), SILENCE_MS);
      yield JSON.parse(data);
    }
  } finally {
    clearTimeout(silence.timer);
    ended.abort();
  }
}

/** The data of each event of a text/event-stream. @param {Response} response */
async function* sentEvents(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true }).replaceAll("\r", "");
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const lines = text.slice(0, end).split("\n");
      text = text.slice(end + 2);
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
      if (data.length) yield data.join("\n");
    }
  }
}
