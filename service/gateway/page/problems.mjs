// What is wrong, in words, beside the field that it is about.
import { byId } from "./dom.mjs";
import { say } from "./words.mjs";

/** @typedef {{ key: string, values?: Record<string, unknown>, detail?: string }} Words a text of the page, and the gateway's sentence */

const FIELDS = ["start", "end", "prompt", "negative", "model", "resolution", "aspect", "duration", "seed", "steps", "cfg", "shift", "form"];

/** The gateway's name of a field -> the page's. @type {Record<string, string>} */
const OWN_NAMES = {
  negative_prompt: "negative",
  aspect_ratio: "aspect",
  length: "duration",
  task_type: "model",
  workflow: "model",
  high_noise_cfg: "cfg",
  low_noise_cfg: "cfg",
  width: "resolution",
  height: "resolution",
};

/** @type {Record<string, string>} */
const WORDS = {
  INVALID_IMAGE: "error_picture",
  IMAGE_TOO_LARGE: "error_picture",
  IMAGE_TOO_SMALL: "error_picture",
  INVALID_URL: "error_link",
  BLOCKED_URL: "error_link",
  DOWNLOAD_FAILED: "error_link",
  DOWNLOAD_TIMEOUT: "error_link",
  INVALID_LORA: "error_value",
  MISSING_FIELD: "error_value",
  INVALID_TYPE: "error_value",
  INVALID_VALUE: "error_value",
  OUT_OF_RANGE: "error_value",
  CONFLICT: "error_value",
  UNKNOWN_FIELD: "error_value",
  PROMPT_TOO_LONG: "error_value",
  MODEL_MISSING: "error_model",
  MODEL_REFUSED: "error_model",
  NODE_MISSING: "error_model",
  OUT_OF_MEMORY: "error_memory",
  GPU_ERROR: "error_machine",
  BACKEND_UNAVAILABLE: "error_machine",
  COMFYUI_UNAVAILABLE: "error_machine",
  COMFYUI_CRASHED: "error_machine",
  INTERRUPTED: "error_machine",
  EXECUTION_FAILED: "error_machine",
  DISK_FULL: "error_machine",
  INTERNAL_ERROR: "error_machine",
  TIMEOUT: "error_timeout",
  UNAUTHORIZED: "error_key",
  BODY_TOO_LARGE: "error_large",
  RATE_LIMITED: "error_busy",
  QUEUE_FULL: "error_queue",
  QUEUE_UNAVAILABLE: "error_unreachable",
  STORE_FULL: "error_storage",
  STORE_UNAVAILABLE: "error_storage",
  UNREACHABLE: "error_unreachable",
};

/** @param {ApiProblem} problem @param {number} retryAfterS @returns {Words} */
export const wordsOf = ({ code, message }, retryAfterS = 60) => ({
  key: WORDS[code] ?? "error_other",
  values: { seconds: retryAfterS },
  detail: message,
});

/** The page's field that a problem is about; "form" where it is about none. @param {ApiProblem} problem */
export function fieldOf({ field }) {
  if (!field) return "form";
  if (field.startsWith("end_image")) return "end";
  if (field.startsWith("image")) return "start";
  const own = OWN_NAMES[field] ?? field;
  return FIELDS.includes(own) ? own : "form";
}

/** The words as elements; the gateway's sentences are English. @param {Words} words */
export function shown({ key, values, detail }) {
  const own = say(key, values);
  if (!detail) return [own];
  const sentence = document.createElement("span");
  sentence.lang = "en";
  sentence.textContent = detail;
  return [own, " ", sentence];
}

/**
 * Show what is wrong with each field, and nothing else.
 * @param {Record<string, Words>} problems @param {boolean} isFocused whether the first such field gets the focus
 */
export function showProblems(problems, isFocused = true) {
  for (const field of FIELDS) {
    const place = byId(`problem_${field}`, HTMLParagraphElement);
    place.replaceChildren(...(problems[field] ? shown(problems[field]) : []));
    if (field === "form") continue;
    const input = document.getElementById(field);
    if (problems[field]) input?.setAttribute("aria-invalid", "true");
    else input?.removeAttribute("aria-invalid");
  }
  const first = FIELDS.find((field) => problems[field] && field !== "form");
  if (!first || !isFocused) return;
  const details = document.getElementById(first)?.closest("details");
  if (details) details.open = true;
  const input = document.getElementById(first) ?? document.querySelector(`[name=${first}]`);
  if (input instanceof HTMLElement) input.focus();
}
