// What the models, the legs and the prompts come through on their way into a node of the pack.
import { isLinked, isListed, sourceOf, valueOf } from "./graph_values.mjs";

export const EXPERTS = /** @type {const} */ (["high_noise", "low_noise"]);
const PASS_MODELS_ON = ["WanRelay_ApplyLoraPair", "WanRelay_ApplyNag"];

/**
 * The nodes of the pack that a model comes through on its way into `node`, the last first, and the LoadExperts before
 * them, where there is one.
 * @param {ComfyNode} node
 */
export function modelChain(node, input = "high_noise") {
  const chain = [];
  let source = sourceOf(node, input);
  while (source && PASS_MODELS_ON.includes(source.comfyClass ?? "")) {
    chain.push(source);
    source = sourceOf(source, input);
  }
  return { chain, loader: source?.comfyClass === "WanRelay_LoadExperts" ? source : undefined };
}

/**
 * The expert files of a LoadExperts; nothing where one of them is not known or not there.
 * @param {ComfyNode | undefined} loader
 */
export function expertsOf(loader) {
  const files = EXPERTS.map((slot) => [slot, loader && valueOf(loader, slot)]);
  return loader && files.every(([slot, file]) => isListed(loader, slot, file)) ? Object.fromEntries(files) : {};
}

/**
 * True where no low-noise model arrives: the input is free, or the loader at the start of the chain has "none" for it.
 * @param {ComfyNode} node
 */
export function hasOneExpert(node) {
  const { chain, loader } = modelChain(node, "low_noise");
  return !isLinked(chain.at(-1) ?? node, "low_noise") || (loader !== undefined && valueOf(loader, "low_noise") === "none");
}

/**
 * A widget of each opening leg that arrives at an input, first to last; undefined for one that only a run can tell.
 * @param {ComfyNode} node @param {string} widget @returns {unknown[]}
 */
export function ofOpeningLegs(node, widget, input = "opening") {
  if (!isLinked(node, input)) return [];
  const leg = sourceOf(node, input);
  if (!leg || leg.comfyClass !== "WanRelay_OpeningLeg") return [undefined];
  return [...ofOpeningLegs(leg, widget, "previous"), valueOf(leg, widget)];
}

/**
 * The negative prompt that arrives, where it is known.
 * @param {ComfyNode} node @returns {string | undefined}
 */
export function negativePrompt(node) {
  const source = sourceOf(node, "negative");
  if (source?.comfyClass === "WanRelay_PrepareLatent") return negativePrompt(source);
  return source?.comfyClass === "WanRelay_EncodePrompts" ? valueOf(source, "negative_prompt") : undefined;
}
