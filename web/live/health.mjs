// Signs of health with a light each, and advice for the one that needs it most, or what a guard has found. The advice is
// an element of its own: it is read also where the signs are folded.

import { alarms, signs } from "./advice.mjs";
import { make, write } from "./dom.mjs";

const POINT = "Point at a sign to read what it means.";

export class Health {
  constructor() {
    this.cells = make("div.signs");
    this.advice = make("p.advice");
    this.about = make("p.about", {}, POINT);
    this.element = make("section.health", {}, this.cells, this.about);
  }

  show(state) {
    const found = signs(state.reports, state.config?.reward_weights, state.diagnosis?.findings);
    if (!this.cells.children.length) this.#fill(found);
    found.forEach((sign, index) => {
      const { cell, value } = this.made[index];
      cell.dataset.light = sign.light;
      cell.title = sign.advice ? `${sign.about}\n\n${sign.advice}` : sign.about;
      write(value, sign.value);
    });
    this.found = found;
    this.told = state.diagnosis?.told?.[0];
    this.light = ["bad", "watch", "good"].find((light) => found.some((sign) => sign.light === light)) ?? "none";
    this.alarm = alarms(state.reports)[0];
    this.trouble = [...state.problems, ...(state.reports[state.reports.length - 1]?.failures ?? [])];
    this.#advise();
  }

  #fill(found) {
    this.made = found.map((sign, index) => {
      const value = make("b");
      const cell = make("div.sign", {
        onpointerenter: () => write(this.about, this.found[index].about),
        onpointerleave: () => write(this.about, POINT),
      }, make("span.label", {}, make("i.light"), sign.name), value);
      return { cell, value };
    });
    this.cells.replaceChildren(...this.made.map(({ cell }) => cell));
  }

  /** The gravest cause; else what a guard found; else what could not be read or scored; else a sign to watch. */
  #advise() {
    const quiet = this.alarm || this.trouble.length ? null : this.found.find(({ light }) => light === "watch");
    const text = this.told?.words ?? this.alarm?.sentence ?? this.trouble[0] ?? quiet?.advice ?? "";
    const light = this.told ? this.told.light : this.alarm?.level === "stop" ? "bad" : text ? "watch" : "none";
    write(this.advice, text && text[0].toUpperCase() + text.slice(1));
    this.advice.dataset.light = light;
    this.advice.title = text;
  }
}
