// New nodes of this pack are large enough: the title is whole, and a box for prompts shows several of them.

import { app } from "../../scripts/app.js";

const WIDTH = 225; // as Vue nodes have it
const LINES = 60; // pixels of height for a box, besides the one or two lines that the host gives it
const RARE = "more_settings";

app.registerExtension({
  name: "MixGRPO.Sizes",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("MixGRPO_")) return;
    const boxes = (node.widgets ?? []).filter(
      ({ element, name }) => element instanceof HTMLTextAreaElement && name !== RARE,
    );
    node.setSize([Math.max(node.size[0], WIDTH), node.size[1] + LINES * boxes.length]);
  },
});
