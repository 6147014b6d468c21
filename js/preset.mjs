// On Sample: what the authors of the chosen files recommend, offered in words where the node is set otherwise.
import { isLinked, setWidget, sourceOf, valueOf, widgetOf } from "./graph_values.mjs";
import { isListed } from "./file_check.mjs";
import { watch } from "./live.mjs";
import { filesOfRows } from "./lora_rows.mjs";
import { make } from "./panel.mjs";
import { text } from "./text.mjs";

/**
 * A function that gives the lines for the panel; `draw` is called when they may have changed.
 * @param {ComfyNode} node @param {() => void} draw
 */
export function presetOffer(node, draw) {
  /** @type {PresetAnswer | undefined} */
  let answer;
  watch(node, () => question(node), (/** @type {PresetAnswer | undefined} */ said) => {
    answer = said;
    draw();
  });
  return () => (answer?.settings ? lines(node, answer) : []);
}

/** @param {ComfyNode} node */
function question(node) {
  const query = filesBelow(node);
  const values = node.widgets?.map(({ value }) => value); // so that the lines are drawn anew with every change
  return query ? { route: "preset", query, values } : { values };
}

/**
 * The experts at the start of the chain, and the LoRAs on the way.
 * @param {ComfyNode} node
 */
function filesBelow(node) {
  const loras = { high_noise: /** @type {string[]} */ ([]), low_noise: /** @type {string[]} */ ([]) };
  let source = sourceOf(node, "high_noise");
  while (source?.comfyClass === "WanRelay_ApplyLoraPair") {
    const files = filesOfRows(source);
    loras.high_noise.unshift(...files.high_noise);
    loras.low_noise.unshift(...files.low_noise);
    source = sourceOf(source, "high_noise");
  }
  const loader = source;
  if (loader?.comfyClass !== "WanRelay_LoadExperts") return undefined;
  const [high_noise, low_noise] = ["high_noise", "low_noise"].map((slot) => valueOf(loader, slot));
  if (!isListed(loader, "high_noise", high_noise) || !isListed(loader, "low_noise", low_noise)) return undefined;
  const [high_noise_loras, low_noise_loras] = [loras.high_noise.join("\n"), loras.low_noise.join("\n")];
  return { high_noise, low_noise, high_noise_loras, low_noise_loras };
}

/** @param {ComfyNode} node @param {PresetAnswer} answer */
function lines(node, { file, settings = {}, also_good = {} }) {
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
