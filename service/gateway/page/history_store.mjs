// What this browser asked for: ids, words and small pictures in localStorage, the newest first. No key, no link, no video.

/**
 * @typedef {Omit<VideoOrder, "image_url" | "end_image_url">} KeptOrder
 * @typedef {{
 *   id: string, at: number, order: KeptOrder, width: number, height: number, frames: number, thumbnail?: string,
 *   experts: (string | null)[], task: VideoTask, isGone?: boolean,
 * }} Entry `experts` holds whose step each was, as far as it was seen; `isGone`: the gateway knows it no longer
 */

const KEPT_AS = "wan_relay_history";
const MOST = 60;

/** @type {Entry[]} */
let entries = [];
/** @type {Set<() => void>} */
const listeners = new Set();

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT_AS) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

/** Called when another tab wrote, too. @param {() => void} changed */
export function onHistory(changed) {
  listeners.add(changed);
}

export function openHistory() {
  entries = read();
  window.addEventListener("storage", ({ key }) => {
    if (key !== KEPT_AS) return;
    entries = read();
    listeners.forEach((changed) => changed());
  });
}

/** Oldest entries go first, then all pictures, when the browser gives no more room. */
function keep() {
  entries = entries.slice(0, MOST);
  for (;;) {
    try {
      localStorage.setItem(KEPT_AS, JSON.stringify(entries));
      break;
    } catch {
      if (entries.length < 2) break;
      entries = entries.slice(0, Math.floor(entries.length / 2));
    }
  }
  listeners.forEach((changed) => changed());
}

export const allEntries = () => entries;

/** @param {string} id */
export const entryOf = (id) => entries.find((entry) => entry.id === id);

/** @param {Entry} entry */
export function addEntry(entry) {
  entries = [entry, ...entries.filter(({ id }) => id !== entry.id)];
  keep();
}

/** @param {string} id @param {Partial<Entry>} change */
export function changeEntry(id, change) {
  entries = entries.map((entry) => (entry.id === id ? { ...entry, ...change } : entry));
  keep();
}

/** @param {string} id */
export function dropEntry(id) {
  entries = entries.filter((entry) => entry.id !== id);
  keep();
}

/** What is kept of a task: nothing that opens a file, nothing long. @param {VideoTask} task @returns {VideoTask} */
export const keptTask = (task) => ({ ...task, logs: [], video: task.video && { ...task.video, url: null } });

/** Whether the gateway keeps its video no longer. @param {Entry} entry */
export const isOver = ({ isGone, task }) =>
  Boolean(isGone) || (task.status === "succeeded" && task.expires_at !== null && Date.parse(task.expires_at) <= Date.now());
