// Example workflows open large enough to be read: where the whole is too wide for that, the view begins at their start.

import { app } from "../../scripts/app.js";

const LEGIBLE = 0.6; // below it the classic renderer draws no text
const MARK = "mixgrpo_example"; // kept until a workflow is opened for the first time

app.registerExtension({
  name: "MixGRPO.Opening",
  afterConfigureGraph() {
    const { extra } = app.rootGraph ?? app.graph;
    if (!extra?.[MARK]) return;
    delete extra[MARK];
    const { ds } = app.canvas;
    if (ds.scale >= LEGIBLE) return;
    ds.scale = extra.ds.scale;
    ds.offset = [...extra.ds.offset];
    app.canvas.setDirty(true, true);
  },
});
