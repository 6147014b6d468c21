// The one entry point: gives each node of the pack its panel. Everything the panels show is computed by the server.
import { app } from "../../scripts/app.js";
import { addFileCheck } from "./file_check.mjs";
import { addSchedulePlot } from "./schedule_plot.mjs";
import { addSizeReadout } from "./size_readout.mjs";

const PANELS = {
  WanRelay_LoadExperts: addFileCheck,
  WanRelay_ApplyLoraPair: addFileCheck,
  WanRelay_PrepareLatent: addSizeReadout,
  WanRelay_Sample: addSchedulePlot,
};

app.registerExtension({
  name: "WanRelay",
  nodeCreated(node) {
    PANELS[node.comfyClass]?.(node);
  },
});
