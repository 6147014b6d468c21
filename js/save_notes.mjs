// On SaveVideo: what the saved file does not hold as it came.
import { chain } from "./live.mjs";
import { addPanel, notes } from "./panel.mjs";

export function addTo(node) {
  const panel = addPanel(node, "saved");
  chain(node, "onExecuted", (output) => panel.fill(...notes(output?.wan_relay?.[0])));
}
