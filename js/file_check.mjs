// On LoadExperts and ApplyLoraPair: what the chosen files are, and whether they go together, from their headers.
import { readValues, sourceOf, valueOf, widgetOf } from "./graph_values.mjs";
import { watch } from "./live.mjs";
import { addPanel, make, notes } from "./panel.mjs";
import { text } from "./text.mjs";

const CHECKS = {
  WanRelay_LoadExperts: { route: "experts", files: ["high_noise", "low_noise"] },
  WanRelay_ApplyLoraPair: { route: "loras", files: ["high_noise_lora", "low_noise_lora"] },
};

export function addTo(node) {
  const check = CHECKS[node.comfyClass];
  const panel = addPanel(node, "files");
  watch(node, () => question(node, check), (answer, asked) => {
    const missing = asked.missing.map((file) => make("div", { class: "bad" }, text("missing", { file })));
    const slots = ["high_noise", "low_noise"].filter((slot) => answer?.[slot]);
    panel.fill(...missing, ...slots.map((slot) => describe(slot, answer[slot])), ...notes(answer));
  });
}

function question(node, { route, files }) {
  const { values, unknown } = readValues(node, files);
  const missing = files.filter((name) => values[name] && !isListed(node, name, values[name])).map((name) => values[name]);
  if (unknown.length || missing.length) return { missing };
  return { route, query: { ...values, ...upstreamExperts(node) }, missing };
}

/** The expert files below an ApplyLoraPair, where a LoadExperts is at the start of its chain. */
function upstreamExperts(node) {
  let source = node;
  while (source?.comfyClass === "WanRelay_ApplyLoraPair") source = sourceOf(source, "high_noise");
  if (source === node || source?.comfyClass !== "WanRelay_LoadExperts") return {};
  const names = { high_noise: valueOf(source, "high_noise"), low_noise: valueOf(source, "low_noise") };
  return Object.keys(names).every((name) => isListed(source, name, names[name])) ? names : {};
}

const isListed = (node, name, file) => widgetOf(node, name)?.options.values?.includes(file);

function describe(slot, facts) {
  const colour = slot === "high_noise" ? "high" : "low";
  return make("div", {}, make("span", { class: colour }, text(slot)), ` ${(facts.kind ? expertFacts : loraFacts)(facts).join(" · ")}`);
}

const KINDS = { i2v: "Wan2.2 I2V", t2v: "Wan2.2 T2V", ti2v_5b: "Wan2.2 TI2V-5B" };

const expertFacts = ({ kind, precision, bytes }) => [KINDS[kind] ?? kind, precision, fileSize(bytes)];

const loraFacts = ({ layers, applied, unmatched }) => [
  text("layers", { layers }),
  text("keys", { applied, all: applied + unmatched }),
];

const fileSize = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);
