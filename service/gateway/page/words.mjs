// The page's texts, from words/<language>.json, in the language of the browser until another is chosen.

/** @type {Record<string, string>} */
export const LANGUAGES = { en: "English", ru: "Русский", zh: "中文", ko: "한국어" };
const KEPT_AS = "wan_relay_language";

/** @type {Record<string, string>} */
let words = {};

/** The chosen language, else the first of the browser's that there is, else English. */
export function firstLanguage() {
  const wanted = [localStorage.getItem(KEPT_AS) ?? "", ...navigator.languages.map((name) => name.slice(0, 2).toLowerCase())];
  return wanted.find((name) => name in LANGUAGES) ?? "en";
}

/** @param {string} language */
export async function loadWords(language) {
  const response = await fetch(`/page/words/${language}.json`);
  words = await response.json();
  document.documentElement.lang = language;
}

/** @param {string} language */
export async function chooseLanguage(language) {
  localStorage.setItem(KEPT_AS, language);
  await loadWords(language);
}

/**
 * The text of `key` with its {placeholders} filled in.
 * @param {string} key @param {Record<string, unknown>} values
 */
export const say = (key, values = {}) => (words[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name]));

/** Put the texts into the elements that name one: as their content, their label, their placeholder. */
export function fillIn() {
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(attribute(element, "data-text"));
  for (const element of document.querySelectorAll("[data-label]"))
    element.setAttribute("aria-label", say(attribute(element, "data-label")));
  for (const element of document.querySelectorAll("[data-placeholder]"))
    element.setAttribute("placeholder", say(attribute(element, "data-placeholder")));
}

/** @param {Element} element @param {string} name */
const attribute = (element, name) => element.getAttribute(name) ?? "";

/** @param {number} value @param {Intl.NumberFormatOptions} options */
export const number = (value, options = {}) =>
  new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 2, useGrouping: false, ...options }).format(value);

/** A time of day, with its date where that is not today. @param {string | number} time */
export function moment(time) {
  const date = new Date(time);
  const isToday = date.toDateString() === new Date().toDateString();
  /** @type {Intl.DateTimeFormatOptions} */
  const options = isToday ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(document.documentElement.lang, options).format(date);
}
