// The one entry point: gives each node of the pack its panel. Everything the panels show is computed by the server.
// A panel's module is imported with the first node that needs it, so that a graph without our nodes costs nothing.
import { app } from "../../scripts/app.js";

const PANELS = {
  WanRelay_LoadExperts: () => import("./file_check.mjs"),
  WanRelay_ApplyLoraPair: () => import("./file_check.mjs"),
  WanRelay_PrepareLatent: () => import("./size_readout.mjs"),
  WanRelay_Sample: () => import("./schedule_plot.mjs"),
};

app.registerExtension({
  name: "WanRelay",
  async nodeCreated(node) {
    const panel = await PANELS[node.comfyClass]?.();
    panel?.addTo(node);
  },
});
