// On Sample: every step as a bar as high as its sigma, coloured by its leg; then the run, step by step.
import { api } from "../../scripts/api.js";
import { adviceLines, presetLines } from "./advice.mjs";
import { isLinked, readValues, setWidget, valueOf, widgetOf } from "./graph_values.mjs";
import { chain, watch, whileAdded } from "./live.mjs";
import { hasOneExpert, ofOpeningLegs } from "./model_chain.mjs";
import { addPanel, button, isNode, make, notes } from "./panel.mjs";
import { text, unknownInputs } from "./text.mjs";

/**
 * @typedef {Schedule & { isSingle: boolean }} Plan
 * @typedef {{ step?: number, report?: SampleReport, asked?: string, pace?: Pace }} Run the step that runs, else what the last
 *   run reported and what the panel asked then
 * @typedef {{ begun: number, step: number, step_s?: number }} Pace when a step was first seen, and how long one takes
 */

const INPUTS = ["steps", "scheduler", "sampler", "shift", "denoise", "switch", "boundary", "switch_step"];
const MOST_LABELS = 8;
const USED_BY = { boundary: "boundary", switch_step: "step" }; // each of these by one way of switching

/** @param {ComfyNode} node */
export function addTo(node) {
  const panel = addPanel(node, "schedule");
  /** @type {Run} */
  const run = {};
  /** @type {Plan | undefined} */
  let plan;
  /** @type {Plan | undefined} another schedule, to compare with */
  let kept;
  /** @type {Remarks | undefined} */
  let remarks;
  const draw = () => {
    const drawn = plan ? [plot(node, plan, run, kept?.sigmas), ...legend(plan, run)] : [];
    const compare = button("compare", text(kept ? "stopComparing" : "compare"), () => {
      kept = kept ? undefined : plan;
      draw();
    });
    panel.fill(...drawn, make("div", { class: "row" }, presets.list(), compare), ...presets.said(), ...advice(), ...notes(remarks));
  };
  const [presets, advice] = [presetLines(node, draw), adviceLines(node, draw)];

  watch(node, () => question(node), (/** @type {ScheduleAnswer | undefined} */ answer, asked) => {
    const { unknown, isSingle } = asked;
    for (const [name, way] of Object.entries(USED_BY)) {
      const widget = widgetOf(node, name);
      if (widget) widget.disabled = isSingle || (valueOf(node, "switch") ?? way) !== way;
    }
    plan = answer?.sigmas && answer.sigmas.length > 1 ? { ...answer, isSingle } : undefined;
    const warnings = answer ? answer.notes?.map((values) => text(`note_${values.note}`, values)) : [unknownInputs(node, unknown)];
    remarks = { ...answer, warnings };
    if (run.asked !== JSON.stringify(asked)) run.report = undefined; // an answer may come later than the run that it is about
    draw();
  });
  follow(node, run, draw);
}

/** @param {ComfyNode} node */
function question(node) {
  const { values, unknown } = readValues(node, INPUTS);
  const isSingle = hasOneExpert(node);
  const opening = ofOpeningLegs(node, "steps");
  if (opening.includes(undefined)) unknown.push("opening");
  else if (opening.length) values.opening = opening.join();
  const route = unknown.length ? undefined : "schedule";
  return { route, query: { ...values, experts: isSingle ? 1 : 2 }, unknown, isSingle };
}

/** @param {number[]} values */
const sum = (values) => values.reduce((all, each) => all + each, 0);

/** @param {ComfyNode} node @param {Plan} plan @param {Run} run @param {number[]} kept the sigmas of another plan */
function plot(node, { sigmas, n_opening, switch_step, boundary, switch: mode, isSingle }, { step = -1, report }, kept = []) {
  const steps = sigmas.length - 1;
  const opening = sum(n_opening);
  /** @param {number} sigma */
  const percent = (sigma) => `${(100 * sigma) / Math.max(1, sigmas[0])}%`;
  const bars = sigmas.slice(0, -1).map((sigma, i) => {
    const leg = i < opening ? "opening" : isSingle || i < switch_step ? "high" : "low";
    const state = report || i < step ? "done" : i === step ? "now" : "";
    const label = steps <= MOST_LABELS ? sigma.toFixed(3) : "";
    const offer = isSingle ? "" : `\n${text("moveSwitch", { step: i })}`;
    const title = `${i + 1}: sigma ${sigma.toFixed(4)}${offer}`;
    const bar = make("div", { class: `bar ${leg} ${state} ${isSingle ? "" : "moves"}`, style: `height: ${percent(sigma)}`, title }, label);
    if (!isSingle) bar.addEventListener("click", () => moveSwitch(node, i));
    return bar;
  });
  if (!isSingle) {
    const [kind, place] = mode === "boundary" ? ["level", `bottom: ${percent(boundary)}`] : ["split", `left: ${(100 * switch_step) / steps}%`];
    bars.push(make("div", { class: kind, style: place }));
  }
  const width = 100 / (kept.length - 1);
  const lines = kept.slice(0, -1).map((sigma, i) =>
    make("div", { class: "kept", style: `left: ${i * width}%; width: ${width}%; bottom: ${percent(sigma)}` }),
  );
  return make("div", { class: "plot" }, ...bars, ...lines);
}

/**
 * Let the low-noise expert begin at a step, where these inputs are the node's own.
 * @param {ComfyNode} node @param {number} step
 */
function moveSwitch(node, step) {
  if (isLinked(node, "switch") || isLinked(node, "switch_step")) return;
  setWidget(node, "switch", "step");
  setWidget(node, "switch_step", step);
}

/** @param {Plan} plan @param {Run} run */
function legend({ n_opening, n_high, n_low, switch: mode, boundary, switch_step, isSingle }, { step, report, pace }) {
  const opening = sum(n_opening);
  const total = opening + n_high + n_low;
  const first = opening ? [make("span", { class: "opening" }, text("opening", { steps: opening })), text("separator")] : [];
  const split = isSingle
    ? [text("oneModel", { steps: total })]
    : [
        make("span", { class: "high" }, text("high", { steps: n_high })),
        text("separator"),
        make("span", { class: "low" }, text("low", { steps: n_low })),
        " · ",
        mode === "boundary" ? text("boundary", { boundary }) : text("switchStep", { step: switch_step }),
      ];
  const lines = [make("div", { class: "words" }, ...first, ...split)];
  if (step !== undefined) {
    const expert = isSingle ? "running" : step < switch_step ? "runningHigh" : "runningLow";
    const key = step < opening ? "runningOpening" : expert;
    lines.push(make("div", { class: "run" }, text(key, { step: Math.min(step + 1, total), steps: total })));
    if (pace?.step_s) {
      const left = Math.max(0, total - step) * pace.step_s;
      lines.push(make("div", { class: "pace" }, text("pace", { step_s: shown(pace.step_s), left_s: shown(left) })));
    }
  } else if (report) {
    const { high_noise = 0, low_noise = 0, ...others } = report.seconds;
    const seconds = { opening: sum(Object.values(others)).toFixed(1), high: high_noise.toFixed(1), low: low_noise.toFixed(1) };
    const key = opening ? "tookOpening" : isSingle ? "tookOne" : "took";
    lines.push(make("div", { class: "took" }, text(key, seconds)));
    const loading = sum(Object.values(report.load_seconds));
    if (loading >= 0.1) lines.push(make("div", {}, text("loaded", { seconds: loading.toFixed(1) })));
    lines.push(...notes({ warnings: report.found }));
  }
  return lines;
}

/** @param {number} seconds */
const shown = (seconds) => seconds.toFixed(seconds < 10 ? 1 : 0);

/**
 * How long a step takes, over all since the first that was seen to end: that one has the loading of the model in it.
 * @param {Pace | undefined} pace @param {number} step @returns {Pace | undefined}
 */
function paceAt(pace, step) {
  const now = performance.now();
  if (step < 1) return undefined;
  if (!pace || step < pace.step) return { begun: now, step };
  return step === pace.step ? pace : { ...pace, step_s: (now - pace.begun) / 1000 / (step - pace.step) };
}

/**
 * Keep `run` up to date with what the server says about this node, and draw after every change.
 * @param {ComfyNode} node @param {Run} run @param {() => void} draw
 */
function follow(node, run, draw) {
  /** @param {Run} change */
  const set = (change) => {
    Object.assign(run, change);
    draw();
  };
  const stop = () => set({ step: undefined });
  const listeners = {
    executing: (/** @type {CustomEvent<ComfyNodeId | null>} */ { detail }) => {
      if (isNode(node, detail)) set({ step: 0, report: undefined, pace: undefined });
      else if (run.step !== undefined) stop();
    },
    progress: (/** @type {CustomEvent<{ node: ComfyNodeId, value: number }>} */ { detail }) =>
      isNode(node, detail.node) && set({ step: detail.value, pace: paceAt(run.pace, detail.value) }),
    execution_error: stop,
    execution_interrupted: stop,
    reconnected: stop,
  };
  /** @param {ComfyApi["addEventListener"]} apply */
  const each = (apply) => Object.entries(listeners).forEach(([event, heard]) => apply.call(api, event, heard));
  whileAdded(node, () => each(api.addEventListener), () => each(api.removeEventListener));
  chain(node, "onExecuted", (/** @type {RunOutput<SampleReport> | undefined} */ output) => {
    if (output?.wan_relay) set({ step: undefined, report: output.wan_relay[0], asked: JSON.stringify(question(node)) });
  });
}
