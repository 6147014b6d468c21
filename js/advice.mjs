// On Sample: what goes ill with the chosen files, and what their authors recommend, where the node is set otherwise.
import { isLinked, readValues, setWidget, valueOf, widgetOf } from "./graph_values.mjs";
import { watch } from "./live.mjs";
import { filesOfRows } from "./lora_rows.mjs";
import { expertsOf, hasOneExpert, modelChain, negativePrompt, ofOpeningLegs } from "./model_chain.mjs";
import { make, mistakeNotes } from "./panel.mjs";
import { text } from "./text.mjs";

/**
 * A function that gives the lines for the panel; `draw` is called when they may have changed.
 * @param {ComfyNode} node @param {() => void} draw
 */
export function adviceLines(node, draw) {
  /** @type {AdviceAnswer | undefined} */
  let answer;
  watch(node, () => question(node), (/** @type {AdviceAnswer | undefined} */ said) => {
    answer = said;
    draw();
  });
  return () => (answer ? [...(answer.settings ? offer(node, answer) : []), ...mistakeNotes(answer)] : []);
}

/** @param {ComfyNode} node */
function question(node) {
  const { chain, loader } = modelChain(node);
  const values = node.widgets?.map(({ value }) => value); // so that the lines are drawn anew with every change
  const files = expertsOf(loader);
  if (!("high_noise" in files)) return { values };
  const sampling = readValues(node, ["steps", "high_noise_cfg", "low_noise_cfg"]);
  const cfgs = ofOpeningLegs(node, "cfg");
  const isKnown = !sampling.unknown.length && !cfgs.includes(undefined);
  const query = {
    ...files,
    ...lorasOf(chain),
    ...(isKnown ? { ...sampling.values, opening_cfgs: cfgs.join() } : {}),
    ...(hasOneExpert(node) ? {} : { has_low_noise: 1 }),
    ...(negativePrompt(node)?.trim() ? { has_negative: 1 } : {}),
    ...(chain.some(({ comfyClass }) => comfyClass === "WanRelay_ApplyNag") ? { has_nag: 1 } : {}),
  };
  return { route: "advice", query, values };
}

/**
 * The LoRAs on each expert, in the order in which they are put on.
 * @param {ComfyNode[]} chain
 */
function lorasOf(chain) {
  const rows = chain.filter(({ comfyClass }) => comfyClass === "WanRelay_ApplyLoraPair").reverse().map(filesOfRows);
  const high_noise_loras = rows.flatMap(({ high_noise }) => high_noise).join("\n");
  return { high_noise_loras, low_noise_loras: rows.flatMap(({ low_noise }) => low_noise).join("\n") };
}

/** @param {ComfyNode} node @param {AdviceAnswer} answer */
function offer(node, { file, settings = {}, also_good = {} }) {
  const others = Object.entries(settings).filter(([name, value]) => {
    const good = [value, ...(also_good[name] ?? [])];
    return !isLinked(node, name) && !good.includes(valueOf(node, name));
  });
  if (!others.length) return [];
  const words = others.map(([name, value]) => `${widgetOf(node, name)?.label ?? name} ${value}`).join(text("separator"));
  const set = make("button", { type: "button", class: "preset" }, text("setAll", { settings: words }));
  set.addEventListener("click", () => others.forEach(([name, value]) => setWidget(node, name, value)));
  return [make("div", {}, `${text("recommended", { file })} `, set)];
}
