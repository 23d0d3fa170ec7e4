// One Trainer Settings node: its widgets, and the panel below "details".

import { Held } from "./held.mjs";
import { isFromPreset, settingOf } from "./inputs.mjs";
import { keepPreset, ownPresets, take, toKeep } from "./own.mjs";
import { Panel } from "./panel.mjs";

const OPEN = "mixgrpo_group"; // property: the group of details that is unfolded
const PANEL = "mixgrpo_settings";
const FILES = ["unet_name", "ckpt_name"]; // widgets of the host's loaders
const PAUSE = 60; // ms: a preset's change and what it brings are one question

export class SettingsNode {
  constructor(node, { unset, groups }, api) {
    Object.assign(this, { node, groups, api, held: new Held(node, unset), followed: new WeakSet() });
    this.serial = 0;
    this.told = { values: {}, notes: {}, usual: {}, family: "", error: "" };
    this.own = {};
    this.panel = new Panel({
      unfold: (name) => this.unfold(name),
      putBack: (names) => this.putBack(names),
      choose: (name) => this.choose(name),
      keep: (name) => this.keep(name, toKeep(this.held)),
      remove: (name) => this.keep(name, null),
    });
    this.widget = node.addDOMWidget(PANEL, PANEL, this.panel.element, {
      serialize: false,
      hideOnZoom: false,
      hideInPanel: true, // it would be made as narrow as the panel
      getMinHeight: () => this.panel.height,
      getMaxHeight: () => this.panel.height,
      margin: 6,
    });
    this.widget.serialize = false;
    this.panel.resized = () => this.fit();
    this.changed();
    this.fetchOwn();
  }

  /** A saved workflow, a copy or an undo brought values. */
  loaded() {
    this.held.forget();
    this.changed();
  }

  /** A value or a wire changed: what depends on it is asked for. */
  changed() {
    queueMicrotask(() => this.follow()); // the details come and go behind their callback
    this.serial++; // an answer that is under way is about other values
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), PAUSE);
  }

  /** Something in the graph changed, perhaps the loader of the MODEL. */
  graphChanged() {
    if (this.asked !== undefined && this.asked !== JSON.stringify(loaderOf(this.node))) this.changed();
  }

  /** What is saved: values that nobody set by hand as "from preset". */
  save(saved) {
    if (!saved?.widgets_values) return;
    const kept = this.node.widgets.filter((widget) => widget.serialize !== false);
    saved.widgets_values = kept.map((widget) => this.held.sent(widget) ?? null);
  }

  follow() {
    let more = false;
    for (const widget of this.node.widgets ?? []) {
      if (this.followed.has(widget) || widget === this.widget) continue;
      more ||= widget.name.startsWith("details.");
      this.followed.add(widget);
      const before = widget.callback;
      const settings = this;
      widget.callback = function (...given) {
        const result = before?.apply(this, given);
        settings.changed();
        return result;
      };
      if (this.held.unset.has(settingOf(widget))) widget.serializeValue = () => this.held.sent(widget);
    }
    this.arrange();
    this.draw();
    if (more) this.fit(this.height); // the host has made room for all details
    else this.height = this.node.size[1];
  }

  async ask() {
    const serial = ++this.serial;
    const loader = loaderOf(this.node);
    this.asked = JSON.stringify(loader);
    const window = Boolean(this.node.inputs?.some((input) => input.name === "window" && input.link != null));
    const body = JSON.stringify({ values: this.held.values, window, ...loader });
    const headers = { "Content-Type": "application/json" };
    try {
      const answer = await this.api.fetchApi("/mixgrpo/settings", { method: "POST", headers, body });
      const told = await answer.json();
      if (serial !== this.serial) return;
      if (!answer.ok) throw new Error(told.error);
      this.told = told;
      this.held.show(told.error ? told.usual : told.values, told.notes);
      this.held.tellFamily(told.family);
    } catch {
      if (serial !== this.serial) return;
      this.held.show({}, {}); // 0 and "from preset", as without this script
    }
    this.draw();
  }

  draw() {
    const byHand = this.held.byHand;
    this.panel.show({
      groups: this.detailsShown ? [...this.groups].map(([name, members]) => this.group(name, members, byHand)) : [],
      byHand: byHand.map((widget) => this.chip(widget)),
      error: this.told.error || this.notice || "",
      own: Object.keys(this.own).sort(),
      chosen: this.chosen,
    });
    this.node.setDirtyCanvas?.(true, true);
  }

  get detailsShown() {
    return !isFromPreset(this.node.widgets.find((widget) => widget.name === "details")?.value);
  }

  /** The own preset that the node is set to. */
  get chosen() {
    const now = JSON.stringify(toKeep(this.held));
    return Object.keys(this.own).find((name) => JSON.stringify(sorted(this.own[name])) === now) ?? "";
  }

  group(name, members, byHand) {
    const count = byHand.filter((widget) => members.includes(settingOf(widget))).length;
    return { name, count, open: this.node.properties[OPEN] === name };
  }

  chip(widget) {
    const name = settingOf(widget);
    const usual = this.told.usual[name];
    return { name, value: widget.value, usual: usual ?? null };
  }

  /** The panel below "details", and of the details the group that is unfolded. */
  arrange() {
    const { node } = this;
    const open = this.groups.get(node.properties[OPEN]) ?? [];
    for (const widget of node.widgets) {
      if (!widget.name.startsWith("details.")) continue;
      hide(widget, !open.includes(settingOf(widget)) && !this.held.isLinked(widget));
    }
    const place = node.widgets.findIndex((widget) => widget.name === "details") + 1;
    node.widgets.splice(node.widgets.indexOf(this.widget), 1); // out and in again: Vue looks anew at what is hidden
    node.widgets.splice(place, 0, this.widget);
  }

  /** As high as the widgets need, and `height` where that is more. */
  fit(height = this.node.size[1]) {
    const { node } = this;
    const needed = Math.max(height, node.computeSize([...node.size])[1]);
    if (needed !== node.size[1]) node.setSize([node.size[0], needed]);
    node.setDirtyCanvas?.(true, true);
  }

  unfold(name) {
    const { node } = this;
    const { properties } = node;
    if (!properties[OPEN]) this.folded = node.size[1];
    properties[OPEN] = properties[OPEN] === name ? "" : name;
    this.arrange();
    this.draw();
    this.fit(this.folded);
    afterVue(() => {
      this.fit(this.folded);
      this.remember();
    });
  }

  putBack(names) {
    this.held.putBack(this.held.byHand.filter((widget) => names.includes(settingOf(widget))));
    this.remember();
  }

  choose(name) {
    const missing = take(this.held, this.own[name] ?? {});
    this.notice = missing.length ? `Not known here, and left out: ${missing.join(", ")}.` : "";
    this.changed();
    this.remember();
  }

  async keep(name, values) {
    await this.withOwn(() => keepPreset(this.api, name, values));
  }

  fetchOwn() {
    return this.withOwn(() => ownPresets(this.api));
  }

  async withOwn(work) {
    try {
      this.own = await work();
      this.notice = "";
    } catch (error) {
      this.notice = error.message;
    }
    this.draw();
  }

  /** What was done here can be undone. */
  remember() {
    const tracker = globalThis.comfyAPI?.app?.app?.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker); // the older name in older pages
  }
}

/** When Vue has drawn, which measures nodes and says how high they are. */
const afterVue = (then) => requestAnimationFrame(() => requestAnimationFrame(then));

/** In both ways of drawing nodes: one asks the widget, the other the options that it keeps elsewhere. */
function hide(widget, hidden) {
  widget.hidden = hidden;
  for (const options of new Set([widget.options, widget._state?.options])) if (options) options.hidden = hidden;
}

const sorted = (entries) => Object.fromEntries(Object.entries(entries).sort(([one], [other]) => (one < other ? -1 : 1)));

/** The node and the file that the MODEL comes from which the settings are used with; nothing where that is not seen. */
function loaderOf(node) {
  const from = (one, input) => {
    const slot = one?.inputs?.findIndex(({ name }) => name === input) ?? -1;
    return slot < 0 ? null : one.getInputNode?.(slot);
  };
  for (const user of node.getOutputNodes?.(0) ?? []) {
    let loader = from(user, "model");
    for (let hops = 0; hops < 50 && from(loader, "model"); hops++) loader = from(loader, "model");
    const file = loader?.widgets?.find(({ name }) => FILES.includes(name))?.value;
    if (loader) return { loader: loader.type, file };
  }
  return {};
}
