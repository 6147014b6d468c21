// How a video was made: the values that were used, as the gateway says them.
import { make } from "./dom.mjs";
import { moment, number, say } from "./words.mjs";

/** @param {import("./history_store.mjs").Entry} entry */
export function factsOf({ order, task }) {
  const rows = rowsOf(order, task).flatMap(([name, value]) => (value ? [make("dt", {}, name), make("dd", {}, value)] : []));
  return make("div", { class: "facts" }, make("h2", {}, say("facts")), make("dl", {}, ...rows));
}

/**
 * @param {import("./history_store.mjs").KeptOrder} order @param {VideoTask} task
 * @returns {[string, string | undefined][]}
 */
function rowsOf(order, task) {
  const { video } = task;
  const used = task.settings ?? {};
  return [
    [say("factPrompt"), order.prompt],
    [say("factExpanded"), task.expanded_prompt ?? undefined],
    [say("negative"), order.negative_prompt],
    [say("model"), say(`model_${order.model}`)],
    [say("steps"), text(used.steps)],
    [say("cfg"), cfgOf(used)],
    [say("factSampler"), [used.sampler, used.scheduler].filter(Boolean).join(", ")],
    [say("shift"), text(used.shift)],
    [say("seed"), task.status === "succeeded" ? String(task.seed) : undefined],
    [say("factTime"), seconds(task.timings?.total_s)],
    [say("factFile"), video ? fileOf(video) : undefined],
    [say("factKept"), video && task.expires_at ? moment(task.expires_at) : undefined],
  ];
}

/** The size of a file, in the words that its order was planned in. @param {VideoFile} video */
export const sizeOf = ({ width, height, num_frames, duration, fps }) =>
  say("planned", { width, height, frames: num_frames, seconds: number(duration), fps: number(fps) });

/** @param {VideoFile} video */
function fileOf({ content_type, size }) {
  const kind = content_type.replace("video/", "");
  return say("fileValue", { kind, size: number(size / 1e6, { maximumSignificantDigits: 2 }) });
}

/** @param {Record<string, string | number | null>} used */
function cfgOf({ high_noise_cfg: high, low_noise_cfg: low }) {
  if (typeof high !== "number" || typeof low !== "number" || high === low) return text(high ?? low);
  return `${say("high_noise")} ${number(high)}, ${say("low_noise")} ${number(low)}`;
}

/** @param {number | null | undefined} value */
const seconds = (value) => (value == null ? undefined : say("seconds", { seconds: number(value, { maximumFractionDigits: 1 }) }));

/** @param {string | number | null | undefined} value */
const text = (value) => (value == null ? undefined : typeof value === "number" ? number(value) : value);
