// What the widgets of one node hold: what the preset comes to, or what a person set by hand.
//
// A widget that nobody touched shows the value that the server told, and is sent and saved as "from preset" (0, -1 or
// these words). So a workflow says only what was set by hand, and what is set by hand needs no notes beside it.

import { settingOf } from "./inputs.mjs";

const MARK = "● ";

export class Held {
  /** @param {Map<string, number | string>} unset what stands for "as the preset has it", by setting */
  constructor(node, unset) {
    Object.assign(this, { node, unset, shown: new WeakMap(), labels: new Map() });
  }

  /** The widgets that a preset has values for. */
  get widgets() {
    return (this.node.widgets ?? []).filter((widget) => this.unset.has(settingOf(widget)));
  }

  isLinked(widget) {
    return Boolean(this.node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null));
  }

  isByHand(widget) {
    const unset = this.unset.get(settingOf(widget));
    if (unset === undefined || this.isLinked(widget) || widget.value === unset) return false;
    return !same(widget, widget.value, this.shown.get(widget));
  }

  get byHand() {
    return this.widgets.filter((widget) => this.isByHand(widget));
  }

  /** What a widget's value means to the server and in a saved workflow. */
  sent(widget) {
    const unset = this.unset.get(settingOf(widget));
    return unset === undefined || this.isByHand(widget) || this.isLinked(widget) ? widget.value : unset;
  }

  /** All inputs that have a value of their own, as they are sent. */
  get values() {
    const held = (this.node.widgets ?? []).filter((widget) => widget.serialize !== false && !this.isLinked(widget));
    return Object.fromEntries(held.map((widget) => [settingOf(widget), this.sent(widget)]));
  }

  /** Nothing is known of what the widgets hold: whatever differs from "as the preset has it" was set by hand. */
  forget() {
    this.shown = new WeakMap();
  }

  /** Show values by setting where nothing was set by hand; `notes` say why a setting has none. */
  show(values, notes) {
    for (const widget of this.widgets) {
      const name = settingOf(widget);
      if (!this.isByHand(widget) && !this.isLinked(widget)) {
        const value = values[name] ?? this.unset.get(name);
        const offered = widget.options?.values;
        const known = !Array.isArray(offered) || offered.includes(value);
        this.put(widget, known ? value : this.unset.get(name));
      }
      this.label(widget, values[name] == null ? notes[name] : "");
    }
  }

  put(widget, value) {
    this.shown.set(widget, value);
    if (widget.value !== value) widget.value = value;
  }

  label(widget, note) {
    const name = settingOf(widget);
    if (!this.labels.has(name)) this.labels.set(name, (widget.label ?? name).replace(MARK, "").replace(/ \(.*\)$/, ""));
    const label = this.labels.get(name);
    const words = this.isByHand(widget) ? MARK + label : note && !this.isLinked(widget) ? `${label} (${note})` : label;
    if (widget.label !== words) widget.label = words;
  }

  /** Say which family "auto" is, where the MODEL's file tells. */
  tellFamily(family) {
    const widget = this.node.widgets.find(({ name }) => name === "model_family");
    if (widget) this.label(widget, widget.value === "auto" ? family : "");
  }

  /** Leave settings to the preset again. */
  putBack(widgets) {
    for (const widget of widgets) this.set(widget, this.unset.get(settingOf(widget)));
  }

  /** As a person does it. */
  set(widget, value) {
    widget.value = value;
    widget.callback?.(value);
  }
}

/** Whether two values are one to the widget, which rounds what is typed. */
function same(widget, one, other) {
  if (typeof one !== "number" || typeof other !== "number") return one === other;
  return Math.abs(one - other) <= (widget.options?.round || 0) / 2 + 1e-12;
}
