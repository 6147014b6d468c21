// On Sample: what goes ill with the chosen files, and what their authors recommend, where the node is set otherwise.
import { isLinked, readValues, setWidget, valueOf, widgetOf } from "./graph_values.mjs";
import { watch } from "./live.mjs";
import { filesOfRows } from "./lora_rows.mjs";
import { expertsOf, hasOneExpert, modelChain, negativePrompt, ofOpeningLegs } from "./model_chain.mjs";
import { button, make, mistakeNotes, pickList } from "./panel.mjs";
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
  const set = button("preset", text("setAll", { settings: inWords(node, others) }), () => setAll(node, others));
  return [make("div", {}, `${text("recommended", { file })} `, set)];
}

/** @typedef {[name: string, value: string | number][]} Settings */

/** @param {ComfyNode} node @param {Settings} settings */
const inWords = (node, settings) =>
  settings.map(([name, value]) => `${widgetOf(node, name)?.label ?? name} ${value}`).join(text("separator"));

/** @param {ComfyNode} node @param {Settings} settings */
const setAll = (node, settings) => settings.forEach(([name, value]) => setWidget(node, name, value));

/**
 * The list of all presets, and what the chosen one has set, while the node is set so; both to be drawn anew each time.
 * @param {ComfyNode} node @param {() => void} draw
 */
export function presetLines(node, draw) {
  /** @type {Record<string, Record<string, string | number>>} */
  let presets = {};
  let chosen = "";
  watch(node, () => ({ route: "presets" }), (/** @type {typeof presets | { error: string } | undefined} */ said) => {
    if (said && !("error" in said)) presets = said;
    draw();
  });
  /** @param {string} name */
  const settingsOf = (name) => Object.entries(presets[name]).filter(([input]) => !isLinked(node, input));
  const current = () =>
    Object.keys(presets).find((name) => settingsOf(name).every(([input, value]) => valueOf(node, input) === value)) ?? "";
  return {
    list() {
      const choices = Object.fromEntries(Object.keys(presets).map((name) => [name, text(`preset_${name}`)]));
      const pick = (/** @type {string} */ name) => {
        chosen = name;
        setAll(node, settingsOf(name));
        draw();
      };
      return pickList("presets", choices, current(), text("presets"), pick);
    },
    said() {
      if (!chosen || chosen !== current()) return [];
      return [make("div", {}, text("presetSet", { settings: inWords(node, settingsOf(chosen)) }))];
    },
  };
}
