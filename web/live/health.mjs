// Signs of health with a light each, and advice for the one that needs it most.

import { signs } from "./advice.mjs";
import { make, write } from "./dom.mjs";

export class Health {
  constructor() {
    this.cells = make("div.signs");
    this.advice = make("p.advice");
    this.element = make("section.health", {}, this.cells, this.advice);
    this.chosen = null;
  }

  show(state) {
    const found = signs(state.reports, state.config?.reward_weights);
    if (!this.cells.children.length) this.#fill(found);
    found.forEach((sign, index) => {
      const { cell, value } = this.made[index];
      cell.dataset.light = sign.light;
      cell.title = sign.advice ? `${sign.about}\n\n${sign.advice}` : sign.about;
      write(value, sign.value);
    });
    this.found = found;
    this.trouble = [...state.problems, ...(state.reports[state.reports.length - 1]?.failures ?? [])];
    this.#advise();
  }

  #fill(found) {
    this.made = found.map((sign, index) => {
      const value = make("b");
      const cell = make("div.sign", {
        onpointerenter: () => this.#choose(index),
        onpointerleave: () => this.#choose(null),
      }, make("span.label", {}, make("i.light"), sign.name), value);
      return { cell, value };
    });
    this.cells.replaceChildren(...this.made.map(({ cell }) => cell));
  }

  #choose(index) {
    this.chosen = index;
    this.#advise();
  }

  /** What the pointer asks about; else the worst sign's advice; else what could not be read or scored. */
  #advise() {
    const sign = this.found[this.chosen] ?? this.found.find(({ light }) => light === "bad") ??
      (this.trouble.length ? null : this.found.find(({ light }) => light === "watch"));
    const text = sign ? sign.advice || sign.about : (this.trouble[0] ?? "");
    write(this.advice, text);
    this.advice.dataset.light = sign ? sign.light : text ? "watch" : "none";
    this.advice.title = text;
  }
}
