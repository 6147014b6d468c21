// On ApplyLoraPair: what the files of each row are, the partner of a file that stands alone, the trigger words.
import { isListed, readValues, runs, setWidget, valueOf, widgetOf } from "./graph_values.mjs";
import { describe, offerLine } from "./file_check.mjs";
import { watch } from "./live.mjs";
import { EXPERTS, expertsOf, modelChain } from "./model_chain.mjs";
import { addPanel, copyLine, make, notes } from "./panel.mjs";
import { text } from "./text.mjs";

const PREFIX = "pairs.";

/** @param {string} name The widget of an input; those of a further row stand behind the number of rows. */
const widgetName = (name) => (/_\d+$/.test(name) ? PREFIX + name : name);

/** @param {ComfyNode} node */
export function addTo(node) {
  const panel = addPanel(node, "files");
  const keep = rowKeeper(node);
  watch(node, () => (keep(), question(node)), (/** @type {LorasAnswer | undefined} */ answer, { missing }) => {
    const pairs = answer?.pairs ?? [];
    panel.fill(
      ...missing.map((file) => make("div", { class: "bad" }, text("missing", { file }))),
      ...pairs.flatMap((pair, index) => rowLines(pair, pairs.length > 1 ? `${index + 1}. ` : "")),
      ...(answer?.offers ?? []).map(({ input, file }) => offerLine(node, widgetName(input), file)),
      ...(answer?.trigger_words?.length ? [copyLine(text("triggerWords"), answer.trigger_words.join(", "))] : []),
      ...notes(answer),
    );
  });
}

/**
 * What the names of the inputs end with, row by row.
 * @param {ComfyNode} node
 */
const suffixesOf = (node) =>
  Array.from({ length: Number(valueOf(node, "pairs") ?? 1) }, (_, index) => (index ? `_${index + 1}` : ""));

/** @param {ComfyNode} node @param {string} suffix */
const isOn = (node, suffix) => valueOf(node, widgetName(`is_on${suffix}`)) ?? true;

/**
 * The LoRAs that the node puts on each expert, where they are known.
 * @param {ComfyNode} node
 */
export function filesOfRows(node) {
  const suffixes = suffixesOf(node).filter((suffix) => runs(node) && isOn(node, suffix));
  /** @param {string} slot */
  const files = (slot) => suffixes.map((suffix) => valueOf(node, widgetName(`${slot}_lora${suffix}`)));
  /** @param {string | undefined} file */
  const isFile = (file) => file && file !== "none";
  return { high_noise: files("high_noise").filter(isFile), low_noise: files("low_noise").filter(isFile) };
}

/** @param {ComfyNode} node */
function question(node) {
  const suffixes = suffixesOf(node);
  const names = suffixes.flatMap((suffix) => EXPERTS.map((slot) => `${slot}_lora${suffix}`));
  const { values, unknown } = readValues(node, names.map(widgetName));
  const missing = Object.entries(values).flatMap(([name, file]) => (isListed(node, name, file) ? [] : [file]));
  if (unknown.length || missing.length) return { missing };
  const switches = suffixes.map((suffix) => [`is_on${suffix}`, isOn(node, suffix)]);
  const files = names.map((name) => [name, values[widgetName(name)]]);
  const query = { ...Object.fromEntries([...files, ...switches]), pairs: suffixes.length, ...expertsOf(modelChain(node).loader) };
  return { route: "loras", query, missing };
}

/** @param {LoraPair} pair @param {string} number */
function rowLines(pair, number) {
  return EXPERTS.flatMap((slot) => describe(slot, pair[slot])).map((line) => (line.prepend(number), line));
}

/**
 * A function to call on every tick. The editor makes the widgets of all further rows anew when the number of rows
 * changes; it gives them back their values, and the files that are listed now.
 * @param {ComfyNode} node
 */
function rowKeeper(node) {
  const kept = /** @type {Map<string, { widget: ComfyWidget, value: any }>} */ (new Map());
  return () => {
    const files = widgetOf(node, "high_noise_lora")?.options.values;
    for (const widget of node.widgets ?? []) {
      const { name } = widget;
      if (!name.startsWith(PREFIX)) continue;
      const isFile = name.includes("_lora_");
      const before = kept.get(name);
      const unset = isFile ? "none" : name.includes("_strength_") ? 1 : true;
      if (before && before.widget !== widget && widget.value === unset) setWidget(node, name, before.value);
      if (isFile) widget.options.values = files;
      kept.set(name, { widget, value: widget.value });
    }
  };
}
