// On Sample: every step as a bar as high as its sigma, coloured by its expert; then the run, step by step.
import { api } from "../../scripts/api.js";
import { isLinked, readValues, sourceOf, valueOf } from "./graph_values.mjs";
import { chain, watch, whileAdded } from "./live.mjs";
import { addPanel, make, notes } from "./panel.mjs";
import { text, unknownInputs } from "./text.mjs";

const INPUTS = ["steps", "scheduler", "sampler", "shift", "denoise", "switch", "boundary", "switch_step"];
const MOST_LABELS = 8;

export function addTo(node) {
  const panel = addPanel(node, "schedule");
  const run = { step: undefined, report: undefined };
  let plan;
  const draw = () => panel.fill(...(plan?.sigmas?.length > 1 ? [plot(plan, run), ...legend(plan, run)] : []), ...notes(plan));

  watch(node, () => question(node), (answer, asked) => {
    plan = answer ?? { warnings: [unknownInputs(node, asked.unknown)] };
    if (plan.notes) plan.warnings = plan.notes.map((values) => text(`note_${values.note}`, values));
    plan.isSingle = asked.isSingle;
    run.report = undefined;
    draw();
  });
  follow(node, run, draw);
}

function question(node) {
  const { values, unknown } = readValues(node, INPUTS);
  const isSingle = hasOneExpert(node);
  return unknown.length ? { unknown, isSingle } : { route: "schedule", query: { ...values, experts: isSingle ? 1 : 2 }, isSingle };
}

/** True where no low-noise model arrives: the input is free, or the loader at the start of the chain has "none" for it. */
function hasOneExpert(node) {
  let source = node;
  do {
    if (!isLinked(source, "low_noise")) return true;
    source = sourceOf(source, "low_noise");
  } while (source?.comfyClass === "WanRelay_ApplyLoraPair");
  return source?.comfyClass === "WanRelay_LoadExperts" && valueOf(source, "low_noise") === "none";
}

function plot({ sigmas, switch_step, boundary, switch: mode, isSingle }, { step, report }) {
  const steps = sigmas.length - 1;
  const percent = (sigma) => `${(100 * sigma) / Math.max(1, sigmas[0])}%`;
  const bars = sigmas.slice(0, -1).map((sigma, i) => {
    const expert = isSingle || i < switch_step ? "high" : "low";
    const state = report || i < step ? "done" : i === step ? "now" : "";
    const label = steps <= MOST_LABELS ? sigma.toFixed(3) : "";
    const title = `${i + 1}: sigma ${sigma.toFixed(4)}`;
    return make("div", { class: `bar ${expert} ${state}`, style: `height: ${percent(sigma)}`, title }, label);
  });
  if (!isSingle) {
    const [kind, place] = mode === "boundary" ? ["level", `bottom: ${percent(boundary)}`] : ["split", `left: ${(100 * switch_step) / steps}%`];
    bars.push(make("div", { class: kind, style: place }));
  }
  return make("div", { class: "plot" }, ...bars);
}

function legend({ n_high, n_low, switch: mode, boundary, switch_step, isSingle }, { step, report }) {
  const total = n_high + n_low;
  const split = isSingle
    ? [text("oneModel", { steps: total })]
    : [
        make("span", { class: "high" }, text("high", { steps: n_high })),
        text("separator"),
        make("span", { class: "low" }, text("low", { steps: n_low })),
        " · ",
        mode === "boundary" ? text("boundary", { boundary }) : text("switchStep", { step: switch_step }),
      ];
  const lines = [make("div", { class: "words" }, ...split)];
  if (step !== undefined) {
    const key = isSingle ? "running" : step < n_high ? "runningHigh" : "runningLow";
    lines.push(make("div", { class: "run" }, text(key, { step: Math.min(step + 1, total), steps: total })));
  } else if (report) {
    const { high_noise = 0, low_noise = 0 } = report.seconds;
    const seconds = { high: high_noise.toFixed(1), low: low_noise.toFixed(1) };
    lines.push(make("div", { class: "took" }, text(isSingle ? "tookOne" : "took", seconds)));
    lines.push(...notes({ warnings: report.found }));
  }
  return lines;
}

/** Keep `run` up to date with what the server says about this node, and draw after every change. */
function follow(node, run, draw) {
  const isOurs = (id) => String(id ?? "").split(":").pop() === String(node.id);
  const set = (change) => {
    Object.assign(run, change);
    draw();
  };
  const stop = () => set({ step: undefined });
  const listeners = {
    executing: ({ detail }) => {
      if (isOurs(detail)) set({ step: 0, report: undefined });
      else if (run.step !== undefined) stop();
    },
    progress: ({ detail }) => isOurs(detail.node) && set({ step: detail.value }),
    execution_error: stop,
    execution_interrupted: stop,
    reconnected: stop,
  };
  const each = (apply) => Object.entries(listeners).forEach(([event, heard]) => apply.call(api, event, heard));
  whileAdded(node, () => each(api.addEventListener), () => each(api.removeEventListener));
  chain(node, "onExecuted", (output) => output?.wan_relay && set({ step: undefined, report: output.wan_relay[0] }));
}
