// Puts the bar on every Window node.

import { app } from "../../scripts/app.js";
import { addWindowBar } from "./window_bar.mjs";

app.registerExtension({
  name: "mixgrpo.window",
  nodeCreated(node) {
    if (node.comfyClass === "MixGRPO_Window") addWindowBar(node);
  },
});
