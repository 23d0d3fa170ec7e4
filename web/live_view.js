// Puts the live view into the trainer node.

import { app } from "../../scripts/app.js";
import { KEPT_AS, NodeLink } from "./live/link.mjs";
import { Outsides } from "./live/outside.mjs";
import { Room } from "./live/room.mjs";
import { WIDTH } from "./live/view.mjs";

const TRAINER = "MixGRPO_TrainLora";
const MARGIN = 8;
const HOST_TEXT = "$$node-text-preview";

app.registerExtension({
  name: "MixGRPO.LiveView",
  setup() {
    for (const name of ["lib/uPlot.min.css", "live/live.css"]) {
      const link = document.createElement("link");
      Object.assign(link, { rel: "stylesheet", href: new URL(name, import.meta.url).href });
      document.head.append(link);
    }
  },
  nodeCreated(node) {
    if (!node.isSubgraphNode?.() && node.comfyClass !== TRAINER) return;
    for (const change of ["onAdded", "onRemoved"]) after(node, change, lookSoon);
  },
  afterConfigureGraph: lookSoon,
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== TRAINER) return;
    after(nodeType.prototype, "onNodeCreated", attach);
    after(nodeType.prototype, "onConfigure", (node) => {
      node.mixgrpo?.restore();
      node.mixgrpo?.room.restore();
    });
    after(nodeType.prototype, "onRemoved", (node) => node.mixgrpo?.close());
    const clone = nodeType.prototype.clone;
    nodeType.prototype.clone = function () {
      const copy = clone.apply(this, arguments);
      if (copy) delete copy.properties[KEPT_AS]; // a copy has made no run yet
      return copy;
    };
  },
});

function after(prototype, name, then) {
  const before = prototype[name];
  prototype[name] = function () {
    const result = before?.apply(this, arguments);
    then(this);
    return result;
  };
}

function attach(node) {
  const here = (place) => nodeAt(node.graph?.rootGraph ?? node.graph, place) === node;
  const link = new NodeLink(node, here, { forward, reveal, fit: () => node.mixgrpo?.room?.fit() });
  node.mixgrpo = link;
  show(node, link);
  showOnlyTheView(node);
  link.room.restore();
}

/** Give a node a widget with the view in it. */
function show(node, link) {
  const widget = node.addDOMWidget("mixgrpo_live", "mixgrpo_live", link.view.element, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true, // it would be made as narrow as the panel
    getMinHeight: () => link.view.least + 2 * MARGIN,
    margin: MARGIN,
  });
  widget.serialize = false;
  const compute = node.computeSize;
  node.computeSize = function () {
    const size = compute.apply(this, arguments);
    size[0] = Math.max(size[0], WIDTH);
    return size;
  };
  Object.assign(link, { widget, room: new Room(node, link.view) });
  link.hide = () => {
    node.computeSize = compute;
    widget.onRemove?.();
  };
}

/** A subgraph's node computes its widgets from what it promotes: the view stands behind those. */
function showOutside(node, link) {
  const { get } = Object.getOwnPropertyDescriptor(node, "widgets");
  show(node, link);
  const view = [];
  Object.defineProperty(node, "widgets", { get: () => [...get.call(node), ...view], set() {}, configurable: true, enumerable: true });
  view.push(link.widget);
}

const outsides = new Outsides(
  {
    isTrainer: (node) => node.comfyClass === TRAINER,
    show: showOutside,
    nodeAt,
    inVue: (node) => globalThis.LiteGraph.vueNodesMode && app.canvas?.graph === node.graph,
  },
  { forward, reveal },
);
let looking = null;

/** When all that came or went together has. */
function lookSoon() {
  looking ??= setTimeout(() => {
    looking = null;
    outsides.look(app.rootGraph ?? app.graph);
  });
}

/** The host's own line of text and preview picture say less than the view does: they stay hidden. */
function showOnlyTheView(node) {
  node.hideOutputImages = true;
  node.onDrawBackground = () => {};
  const swallow = node.addCustomWidget({
    name: HOST_TEXT,
    type: "hidden",
    value: "",
    hidden: true,
    options: { hidden: true, serialize: false },
    computeSize: () => [0, -4],
    draw() {},
  });
  swallow.serialize = false;
}

/** The node that the host calls "12", or "5:12" where it is in the subgraph of node 5. */
function nodeAt(root, place) {
  const [last, ...holders] = String(place).split(":").reverse();
  let graph = root;
  for (const holder of holders.reverse()) graph = graph?.getNodeById(holder)?.subgraph;
  return graph?.getNodeById(last);
}

/** The canvas below keeps its wheel and its middle button in the classic renderer; Vue nodes forward on their own. */
function forward(event) {
  if (globalThis.LiteGraph?.vueNodesMode) return;
  if (event.type === "wheel") app.canvas.processMouseWheel(event);
  else if (event.button === 1) app.canvas.processMouseDown(event);
}

/** Show a node that was added on a click. */
function reveal(node) {
  app.canvas.deselectAll?.();
  app.canvas.selectNode?.(node);
  if (!app.canvas.isNodeVisible?.(node)) app.canvas.centerOnNode(node);
}
