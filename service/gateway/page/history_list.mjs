// The history as cards: a small picture, the prompt, how it stands.
import { button, make } from "./dom.mjs";
import { allEntries, isOver } from "./history_store.mjs";
import { moment, say } from "./words.mjs";

/** @typedef {import("./history_store.mjs").Entry} Entry */

/** @typedef {{ choose: (id: string) => void, remove: (id: string) => void }} Actions */

/** Cards that may stay as they are: drawn anew at every step, their pictures would flicker. @type {Map<string, Card>} */
let drawn = new Map();
/** @typedef {{ looks: string, element: HTMLLIElement }} Card */

/**
 * @param {HTMLElement} element @param {string | undefined} chosen @param {Actions} actions @param {Node[]} problem
 */
export function drawHistory(element, chosen, actions, problem) {
  const entries = allEntries();
  const focused = document.activeElement?.getAttribute("data-card");
  element.hidden = !entries.length;
  /** @type {typeof drawn} */
  const cards = new Map();
  for (const entry of entries) {
    const status = statusOf(entry);
    const isChosen = entry.id === chosen;
    const looks = JSON.stringify([status, isChosen, entry.thumbnail?.length, document.documentElement.lang]);
    const before = drawn.get(entry.id);
    cards.set(entry.id, before?.looks === looks ? before : { looks, element: card(entry, status, isChosen, actions) });
  }
  drawn = cards;
  const list = make("ul", {}, ...[...cards.values()].map((each) => each.element));
  element.replaceChildren(make("h2", {}, say("history")), ...problem, list);
  const again = focused && element.querySelector(`[data-card="${CSS.escape(focused)}"]`);
  if (again instanceof HTMLElement) again.focus();
}

/** @param {Entry} entry @param {string} status @param {boolean} isChosen @param {Actions} actions */
function card({ id, order, thumbnail, at }, status, isChosen, { choose, remove }) {
  const picture = thumbnail ? make("img", { src: thumbnail, alt: "" }) : make("span", { class: "blank" });
  const open = button("", () => choose(id), { class: "open", "data-card": id, ...(isChosen ? { "aria-current": "true" } : {}) });
  const words = make("span", { class: "words" }, make("span", { class: "prompt" }, order.prompt));
  words.append(make("span", { class: "hint" }, `${status} · ${moment(at)}`));
  open.replaceChildren(picture, words);
  const name = say("deleteNamed", { prompt: order.prompt.slice(0, 80) });
  return make("li", {}, open, button("×", () => remove(id), { class: "remove", "aria-label": name, "data-card": `${id} delete` }));
}

/** @param {Entry} entry */
function statusOf(entry) {
  if (isOver(entry)) return say("goneFromHistory");
  return say(`status_${entry.task.status}`, { percent: Math.round(entry.task.progress?.percent ?? 0) });
}
