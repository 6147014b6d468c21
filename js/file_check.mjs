// On LoadExperts: what the chosen files are, and whether they go together, from their headers.
import { isListed, readValues, setWidget, widgetOf } from "./graph_values.mjs";
import { watch } from "./live.mjs";
import { EXPERTS } from "./model_chain.mjs";
import { addPanel, button, make, notes } from "./panel.mjs";
import { text } from "./text.mjs";

/** @param {ComfyNode} node */
export function addTo(node) {
  const panel = addPanel(node, "files");
  watch(node, () => question(node), (/** @type {ExpertsAnswer | undefined} */ answer, asked) => {
    const missing = asked.missing.map((file) => make("div", { class: "bad" }, text("missing", { file })));
    const facts = EXPERTS.flatMap((slot) => describe(slot, answer?.[slot]));
    const offers = (answer?.offers ?? []).map(({ input, file }) => offerLine(node, input, file));
    panel.fill(...missing, ...facts, ...offers, ...notes(answer));
  });
}

/** @param {ComfyNode} node */
function question(node) {
  const { values, unknown } = readValues(node, [...EXPERTS]);
  const missing = EXPERTS.filter((name) => values[name] && !isListed(node, name, values[name])).map((name) => values[name]);
  if (unknown.length || missing.length) return { missing };
  return { route: "experts", query: values, missing };
}

/** @param {"high_noise" | "low_noise"} slot @param {ExpertFacts | LoraFacts | null | undefined} facts */
export function describe(slot, facts) {
  if (!facts) return [];
  const colour = slot === "high_noise" ? "high" : "low";
  const words = facts.kind === undefined ? loraFacts(facts) : expertFacts(facts);
  return [make("div", {}, make("span", { class: colour }, text(slot)), ` ${words.join(" · ")}`)];
}

/**
 * The file that belongs into an input beside the one that is chosen, one press away.
 * @param {ComfyNode} node @param {string} name @param {string} file
 */
export function offerLine(node, name, file) {
  const use = button("offer", text("usePartner", { file }), () => setWidget(node, name, file));
  return make("div", {}, `${widgetOf(node, name)?.label ?? name}: `, use);
}

/** @type {Record<string, string>} */
const KINDS = { i2v: "Wan2.2 I2V", t2v: "Wan2.2 T2V", ti2v_5b: "Wan2.2 TI2V-5B" };

/** @param {ExpertFacts} facts */
const expertFacts = ({ kind, precision, bytes, file }) => [KINDS[kind] ?? kind, precision, fileSize(bytes), ...tailOf(file)];

const WHOLE_NAME = 24; // what the node's own field shows of a name
/**
 * The end of a long name, by which two experts are told apart.
 * @param {string} file
 */
function tailOf(file) {
  const name = file.replace(/\.\w+$/, "");
  return name.length > WHOLE_NAME ? [`…${name.slice(-WHOLE_NAME)}`] : [];
}

/** @param {LoraFacts} facts */
const loraFacts = ({ layers, applied, unmatched }) => [
  text("layers", { layers }),
  text("keys", { applied, all: applied + unmatched }),
];

/** @param {number} bytes */
const fileSize = (bytes) => (bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`);
