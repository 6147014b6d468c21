// What the models, the legs and the prompts come through on their way into a node of the pack.
import { isLinked, isListed, nodesBefore, sourceOf, valueOf } from "./graph_values.mjs";

export const EXPERTS = /** @type {const} */ (["high_noise", "low_noise"]);
const PASS_MODELS_ON = ["WanRelay_ApplyLoraPair", "WanRelay_ApplyNag"];

/**
 * The nodes of the pack that a model comes through on its way into `node`, the last first, and the LoadExperts before
 * them, where there is one.
 * @param {ComfyNode} node
 */
export function modelChain(node, input = "high_noise") {
  const passesOn = (/** @type {ComfyNode} */ { comfyClass = "" }) => PASS_MODELS_ON.includes(comfyClass);
  const before = nodesBefore(node, input, passesOn);
  return { chain: before.filter(passesOn), loader: before.find(({ comfyClass }) => comfyClass === "WanRelay_LoadExperts") };
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
 * A widget of each opening leg that arrives at an input, first to last; undefined for one that only a run can tell, and
 * where they run in a circle.
 * @param {ComfyNode} node @param {string} widget @param {ComfyNode[]} after @returns {unknown[]}
 */
export function ofOpeningLegs(node, widget, input = "opening", after = []) {
  if (!isLinked(node, input)) return [];
  const leg = sourceOf(node, input);
  if (leg?.comfyClass !== "WanRelay_OpeningLeg" || after.includes(leg)) return [undefined];
  return [...ofOpeningLegs(leg, widget, "previous", [...after, leg]), valueOf(leg, widget)];
}

/**
 * The negative prompt that arrives, where it is known.
 * @param {ComfyNode} node @returns {string | undefined}
 */
export function negativePrompt(node) {
  const source = nodesBefore(node, "negative", ({ comfyClass }) => comfyClass === "WanRelay_PrepareLatent").at(-1);
  return source?.comfyClass === "WanRelay_EncodePrompts" ? valueOf(source, "negative_prompt") : undefined;
}
