// The one entry point: gives each node of the pack its panel. Everything the panels show is computed by the server.
// A panel's module is imported with the first node that needs it, so a graph without our nodes costs nothing.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

/** @type {Record<string, () => Promise<{ addTo(node: ComfyNode): void }>>} */
const PANELS = {
  WanRelay_LoadExperts: () => import("./file_check.mjs"),
  WanRelay_ApplyLoraPair: () => import("./lora_rows.mjs"),
  WanRelay_PrepareLatent: () => import("./size_readout.mjs"),
  WanRelay_Sample: () => import("./schedule_plot.mjs"),
  WanRelay_SaveVideo: () => import("./saved_video.mjs"),
};
const RUN_NOTES = () => import("./run_notes.mjs");

app.registerExtension({
  name: "WanRelay",
  setup() {
    // Sample plays its preview between steps, when nothing else makes the canvas draw.
    api.addEventListener("b_preview_with_metadata", () => app.canvas?.setDirty(true, false));
  },
  async refreshComboInNodes() {
    (await import("./live.mjs")).forget();
  },
  async nodeCreated(node) {
    const { comfyClass = "" } = node;
    if (comfyClass.startsWith("WanRelay_")) (await (PANELS[comfyClass] ?? RUN_NOTES)()).addTo(node);
  },
});
