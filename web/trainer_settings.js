// The widgets of Trainer Settings show what preset, family and memory come to; without this they hold 0.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { SettingsNode } from "./settings/node.mjs";
import { inputsOf } from "./settings/inputs.mjs";

const NODE = "MixGRPO_TrainerSettings";
const nodes = new Set();

app.registerExtension({
  name: "MixGRPO.TrainerSettings",
  setup() {
    const href = new URL("settings/settings.css", import.meta.url).href;
    document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
    api.addEventListener("graphChanged", () => nodes.forEach((settings) => settings.graphChanged()));
  },
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== NODE) return;
    const inputs = inputsOf(nodeData);
    after(nodeType.prototype, "onNodeCreated", (node) => {
      node.mixgrpoSettings = new SettingsNode(node, inputs, api);
      nodes.add(node.mixgrpoSettings);
    });
    after(nodeType.prototype, "onConfigure", (node) => node.mixgrpoSettings.loaded());
    after(nodeType.prototype, "onConnectionsChange", (node) => node.mixgrpoSettings?.changed());
    after(nodeType.prototype, "onSerialize", (node, saved) => node.mixgrpoSettings.save(saved));
    after(nodeType.prototype, "onAdded", (node) => nodes.add(node.mixgrpoSettings));
    after(nodeType.prototype, "onRemoved", (node) => nodes.delete(node.mixgrpoSettings));
  },
});

function after(prototype, name, then) {
  const before = prototype[name];
  prototype[name] = function (...given) {
    const result = before?.apply(this, given);
    then(this, ...given);
    return result;
  };
}
