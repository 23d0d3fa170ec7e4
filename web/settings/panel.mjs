// The panel of Trainer Settings: own presets, the groups of details, what was set by hand. It only draws and tells.

const ROW = 24;

export class Panel {
  /** @param {{unfold, putBack, choose, keep, remove}} asks what a person asks for, each with a name or names */
  constructor(asks) {
    this.asks = asks;
    this.element = element("div", "mixgrpo-settings");
    this.parts = ["own", "groups", "hand", "error"].map((name) => element("div", `mg-${name}`, this.element));
    this.parts[3].role = "status";
    this.resized = () => {};
    this.height = 2 * ROW;
    this.drawn = "";
    for (const kind of ["keydown", "keyup"]) this.element.addEventListener(kind, keepFromCanvas);
    new ResizeObserver(() => this.measure()).observe(this.element);
  }

  show(state) {
    const words = JSON.stringify([state, this.naming]);
    this.state = state;
    if (words === this.drawn) return;
    this.drawn = words;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const [own, groups, hand, error] = this.parts;
    own.replaceChildren(...(this.naming ? this.nameRow() : this.ownRow(state)));
    groups.replaceChildren(...state.groups.map((group) => this.groupButton(group)));
    hand.replaceChildren(...this.handRow(state.byHand));
    error.textContent = state.error;
    if (focused) this.element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    this.measure();
  }

  /** The height of the content, whatever room the node gives. */
  measure() {
    const shown = this.parts.filter((part) => part.offsetHeight);
    const needed = Math.ceil(shown.reduce((sum, part) => sum + part.offsetHeight + 3, 3)) + 12; // with the host's margin
    if (!shown.length || Math.abs(needed - this.height) < 2) return;
    this.height = needed;
    this.resized();
  }

  ownRow({ own, chosen }) {
    const list = element("select", "mg-own-list");
    list.dataset.key = "own";
    list.ariaLabel = "own settings";
    list.append(new Option(own.length ? "own settings…" : "no own settings yet", ""));
    for (const name of own) list.append(new Option(name, name));
    list.value = chosen;
    list.disabled = !own.length;
    list.addEventListener("change", () => list.value && this.asks.choose(list.value));
    const save = this.button("save", "save as…", () => this.name(chosen));
    const rest = chosen ? [this.button("remove", "delete", () => this.asks.remove(chosen))] : [];
    return [list, save, ...rest];
  }

  nameRow() {
    const field = element("input", "mg-name");
    Object.assign(field, { type: "text", placeholder: "name of these settings", maxLength: 80, value: this.naming.name });
    field.ariaLabel = "name of these settings";
    field.dataset.key = "name";
    const done = () => {
      const name = field.value.trim();
      this.name(null);
      if (name) this.asks.keep(name);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // the key would press the button that has the focus next
      if (event.key === "Enter") done();
      else this.name(null);
    });
    queueMicrotask(() => field.focus());
    return [field, this.button("keep", "save", done), this.button("cancel", "cancel", () => this.name(null))];
  }

  name(name) {
    this.naming = name === null ? null : { name };
    this.show(this.state);
    if (name === null) this.element.querySelector('[data-key="save"]')?.focus();
  }

  groupButton({ name, count, open }) {
    const words = `${open ? "▾" : "▸"} ${name}${count ? ` ●${count}` : ""}`;
    const button = this.button(`group ${name}`, words, () => this.asks.unfold(name));
    button.ariaExpanded = String(open);
    return button;
  }

  handRow(byHand) {
    if (!byHand.length) return [];
    const chips = byHand.map(({ name, value, usual }) => {
      const back = usual === null ? "back to the preset's" : `back to ${usual}`;
      const chip = this.button(`hand ${name}`, `● ${name} ${value} ✕`, () => this.asks.putBack([name]));
      chip.title = chip.ariaLabel = `${name} is set by hand to ${value}: ${back}`;
      return chip;
    });
    const names = byHand.map(({ name }) => name);
    return [...chips, this.button("all", "put all back", () => this.asks.putBack(names))];
  }

  button(key, words, pressed) {
    const button = element("button", "mg-button");
    button.type = "button";
    button.dataset.key = key;
    button.textContent = words;
    button.addEventListener("click", pressed);
    return button;
  }
}

/** The page's own keys (Delete takes nodes away) are not for what is typed here; those with Ctrl stay the page's. */
function keepFromCanvas(event) {
  if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
}

function element(kind, name, parent) {
  const made = document.createElement(kind);
  made.className = name;
  parent?.append(made);
  return made;
}
