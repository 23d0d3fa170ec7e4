// Puts the live view into the trainer node.

import { app } from "../../scripts/app.js";
import { castVotes, command, listen, liveRuns, pictureUrl, storedRun } from "./events.js";
import { LiveView, WIDTH, HEIGHT } from "./live/view.mjs";
import { RunState } from "./live/state.mjs";

const TRAINER = "MixGRPO_TrainLora";
const KEPT_AS = "mixgrpo_run";
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
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== TRAINER) return;
    after(nodeType.prototype, "onNodeCreated", attach);
    after(nodeType.prototype, "onConfigure", (node) => {
      widen(node);
      node.mixgrpo?.restore();
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
  const link = new NodeLink(node);
  node.mixgrpo = link;
  const widget = node.addDOMWidget("mixgrpo_live", "mixgrpo_live", link.view.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => HEIGHT,
    margin: 8,
  });
  widget.serialize = false;
  showOnlyTheView(node);
  const compute = node.computeSize;
  node.computeSize = function () {
    const size = compute.apply(this, arguments);
    size[0] = Math.max(size[0], WIDTH);
    return size;
  };
  widen(node);
}

/** No narrower and no lower than the view needs. */
function widen(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
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

/** Between one node and what the server says about its run. */
class NodeLink {
  constructor(node) {
    this.node = node;
    this.state = new RunState();
    this.view = new LiveView({
      ask: (name) => this.ask(name),
      cast: async (run, ballot, votes, end) => this.state.voted(await castVotes(run, ballot, votes, end)),
      address: pictureUrl,
      forward,
    });
    this.stop = listen(this);
    this.view.show(this.state);
  }

  close() {
    this.stop();
    this.view.close();
  }

  /** Whether an event speaks of this node: the same place in the same workflow. What a script queued has none. */
  concerns({ node, workflow }) {
    const root = this.node.graph?.rootGraph ?? this.node.graph;
    return Boolean(root) && workflow === root.id && nodeAt(root, node) === this.node;
  }

  async heard(name, data) {
    if (data.run !== this.state.run) {
      this.node.properties[KEPT_AS] = data.run;
      this.state.begin(data.run);
      this.fetch(data.run); // a resumed run has a history
    }
    this.state.hear(name, data);
    this.view.show(this.state);
  }

  lost() {
    this.state.lost();
    this.view.show(this.state);
  }

  back() {
    if (this.state.run) this.fetch(this.state.run);
  }

  /** After a reload: the live run of this node, else the one it remembers. */
  async restore() {
    const live = await liveRuns().catch(() => []);
    const mine = live.find((run) => this.concerns(run));
    const run = mine?.run ?? this.node.properties[KEPT_AS];
    if (!run) return;
    this.node.properties[KEPT_AS] = run;
    if (this.state.run !== run) this.state.begin(run);
    await this.fetch(run);
  }

  async fetch(run) {
    try {
      const stored = await storedRun(run);
      if (this.state.run !== run) return;
      if (stored) this.state.restore(stored, stored.said && this.concerns(stored.said));
      else if (!this.state.serial) this.state.gone();
    } catch (error) {
      this.state.notice = `The run's history cannot be fetched: ${error.message}`;
    }
    this.view.show(this.state);
  }

  async ask(name) {
    try {
      await command(this.state.run, name); // an event tells that it waits
      this.state.notice = "";
    } catch (error) {
      this.state.notice = error.message;
    }
    this.view.show(this.state);
  }
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
