// Follows videos to their ends: the one that is looked at by its event stream, the others by asking now and then.
import { ApiError, events, get } from "./api.mjs";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const ASK_MS = 5000;

/** @typedef {{ onTask: (task: VideoTask) => void, onGone: (id: string) => void, onTrouble: (isLost: boolean) => void }} Listener */

/** @param {Pick<VideoTask, "status">} task */
export const isLive = ({ status }) => status === "queued" || status === "running";

/**
 * The video's every change, over broken connections and restarts of the gateway, until it has ended or `signal` says so.
 * While the tab is hidden it is asked for instead: a browser has few connections to share among its tabs.
 * @param {string} id @param {AbortSignal} signal @param {Listener} listener
 */
export async function follow(id, signal, listener) {
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    try {
      for await (const task of document.hidden ? asked(id, signal) : events(id, untilHidden(signal))) {
        wait = FIRST_WAIT_MS;
        listener.onTrouble(false);
        listener.onTask(task);
        if (!isLive(task)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError) {
        if (error.status === 404) return listener.onGone(id);
        if (error.status === 401) return;
        listener.onTrouble(true);
      } else if (!isBreak(error)) throw error;
    }
    await pause(wait, signal);
    wait = Math.min(2 * wait, LONGEST_WAIT_MS);
  }
}

/** @param {string} id @param {AbortSignal} signal */
async function* asked(id, signal) {
  yield await get(id, signal);
  await pause(ASK_MS, signal);
}

/** @param {AbortSignal} signal */
function untilHidden(signal) {
  const hidden = new AbortController();
  document.addEventListener("visibilitychange", () => hidden.abort(), { once: true, signal });
  return AbortSignal.any([signal, hidden.signal]);
}

/** A stream that ended in the middle: the network's TypeError, or our own abort. @param {unknown} error */
const isBreak = (error) => error instanceof TypeError || (error instanceof DOMException && error.name === "AbortError");

/** At most so long; at once when the tab is looked at again, or the network is back. @param {number} ms @param {AbortSignal} signal */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const end = () => {
      over.abort();
      clearTimeout(timer);
      resolve(undefined);
    };
    const timer = setTimeout(end, ms);
    if (signal.aborted) return end();
    signal.addEventListener("abort", end, { signal: over.signal });
    document.addEventListener("visibilitychange", end, { signal: over.signal });
    window.addEventListener("online", end, { signal: over.signal });
  });
}

/**
 * Ask in turn for each of `ids()`, every few seconds, for ever.
 * @param {() => string[]} ids @param {Pick<Listener, "onTask" | "onGone">} listener
 */
export async function watchOthers(ids, { onTask, onGone }) {
  const never = new AbortController().signal;
  for (;;) {
    for (const id of ids()) {
      try {
        onTask(await get(id));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 404) onGone(id);
        else break;
      }
    }
    await pause(ASK_MS, never);
  }
}
