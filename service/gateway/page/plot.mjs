// Every step as a bar as high as its noise level, in its expert's colour; what is done is solid, what runs stands out.
import { make } from "./dom.mjs";
import { stepsOf } from "./relay_plan.mjs";
import { number, say } from "./words.mjs";

/**
 * @typedef {import("./history_store.mjs").Entry} Entry
 * @typedef {{ sigma: number, expert: string | null | undefined }} Bar
 */

/**
 * The steps as they were planned, with the experts that were seen at work, or that the finished video names.
 * @param {Entry} entry @returns {Bar[]}
 */
export function barsOf({ order, experts, task }) {
  const steps = Number(task.progress?.steps ?? task.settings?.steps ?? 0) || undefined;
  const planned = stepsOf({ ...order, ...(steps ? { steps } : {}) });
  const switchStep = task.settings?.switch_step;
  const isPair = planned.some(({ expert }) => expert);
  return planned.map(({ sigma, expert }, i) => {
    if (isPair && typeof switchStep === "number" && experts[i] !== "opening") return { sigma, expert: i < switchStep ? "high_noise" : "low_noise" };
    return { sigma, expert: experts[i] ?? expert };
  });
}

/** @param {Entry} entry */
export function plotOf(entry) {
  const { task } = entry;
  const bars = barsOf(entry);
  const done = task.status === "succeeded" ? bars.length : (task.progress?.step ?? 0);
  const isSampling = task.status === "running" && task.progress?.stage === "sampling";
  const elements = bars.map(({ sigma, expert }, i) => {
    const state = i < done ? "done" : i === done && isSampling ? "now" : "";
    const bar = make("div", { class: `bar ${expert ?? "one"} ${state}` });
    bar.style.height = `${100 * sigma}%`;
    return bar;
  });
  return make("div", { class: "plot", "aria-hidden": "true" }, ...elements);
}

/** Whose colour is whose, how many steps each has, and how long it took where that is known. @param {Entry} entry */
export function legendOf(entry) {
  const bars = barsOf(entry);
  if (!bars.some(({ expert }) => expert)) return make("p", { class: "legend" }, say("oneModel"));
  const lines = ["opening", "high_noise", "low_noise"].flatMap((expert) => {
    const count = bars.filter((bar) => bar.expert === expert).length;
    if (!count) return [];
    const took = entry.task.timings?.[`${expert}_s`];
    const more = took ? `, ${say("seconds", { seconds: number(took, { maximumFractionDigits: 1 }) })}` : "";
    const name = make("b", { class: expert }, say(expert));
    return [make("span", {}, name, ` ${count}: ${say(`${expert}_does`)}${more}`)];
  });
  return make("p", { class: "legend" }, ...lines);
}
