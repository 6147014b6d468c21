// On LoadExperts and ApplyLoraPair: what the chosen files are, and whether they go together, from their headers.
import { readValues, sourceOf, valueOf, widgetOf } from "./graph_values.mjs";
import { watch } from "./live.mjs";
import { addPanel, make, notes } from "./panel.mjs";
import { text } from "./text.mjs";

const CHECKS = {
  WanRelay_LoadExperts: { route: "experts", files: ["high_noise", "low_noise"], settings: ["weight_dtype"] },
  WanRelay_ApplyLoraPair: {
    route: "loras",
    files: ["high_noise_lora", "low_noise_lora"],
    settings: ["high_noise_strength", "low_noise_strength"],
  },
};

export function addFileCheck(node) {
  const check = CHECKS[node.comfyClass];
  const panel = addPanel(node, "files");
  watch(node, () => question(node, check), (answer, asked) => {
    const missing = asked.missing.map((file) => make("div", { class: "bad" }, text("missing", { file })));
    panel.fill(...missing, ...(answer?.files ?? []).map(describe), ...notes(answer));
  });
}

function question(node, { route, files, settings }) {
  const { values, unknown } = readValues(node, [...files, ...settings]);
  const missing = files.filter((name) => !widgetOf(node, name)?.options.values?.includes(values[name]));
  if (unknown.length || missing.length) return { missing: missing.map((name) => values[name] ?? name) };
  return { route, query: { ...values, ...upstreamExperts(node) }, missing };
}

/** The expert files below an ApplyLoraPair, where a LoadExperts is at the start of its chain. */
function upstreamExperts(node) {
  let source = node;
  while (source?.comfyClass === "WanRelay_ApplyLoraPair") source = sourceOf(source, "high_noise");
  if (source === node || source?.comfyClass !== "WanRelay_LoadExperts") return {};
  const names = { high_noise: valueOf(source, "high_noise"), low_noise: valueOf(source, "low_noise") };
  const isListed = (name) => widgetOf(source, name).options.values?.includes(names[name]);
  return isListed("high_noise") && isListed("low_noise") ? names : {};
}

function describe({ expert, facts }) {
  const colour = expert === "high_noise" ? "high" : "low";
  return make("div", {}, make("span", { class: colour }, text(expert)), ` ${facts.join(" · ")}`);
}
