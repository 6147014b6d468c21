// On the nodes without a panel of their own: what a run found.
import { chain } from "./live.mjs";
import { addPanel, make, notes } from "./panel.mjs";
import { text } from "./text.mjs";

/** @param {ComfyNode} node */
export function addTo(node) {
  const panel = addPanel(node, "saved");
  chain(node, "onExecuted", (/** @type {RunOutput<PromptsReport> | undefined} */ output) => {
    const report = output?.wan_relay?.[0];
    panel.fill(...(report?.cached ? [make("div", {}, text("fromCache"))] : []), ...notes(report));
  });
}
