// On the nodes without a panel of their own: what a run found.
import { chain } from "./live.mjs";
import { addPanel, notes } from "./panel.mjs";

/** @param {ComfyNode} node */
export function addTo(node) {
  const panel = addPanel(node, "saved");
  chain(node, "onExecuted", (/** @type {RunOutput | undefined} */ output) => panel.fill(...notes(output?.wan_relay?.[0])));
}
