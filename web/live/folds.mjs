// The row of what can be unfolded below the chart.

import { make } from "./dom.mjs";

export class Folds {
  /**
   * @param {{name: string, word: string, part: {element: Element, light?: string, absent?: boolean}}[]} sections
   * @param {Element} beside stands at the end of the row
   * @param {(unfolded: string[]) => void} changed hears what the artist unfolded
   */
  constructor(sections, beside, changed) {
    this.unfolded = new Set();
    this.rows = sections.map(({ name, word, part }) => {
      const button = make("button.fold", {
        type: "button",
        title: `Show or hide: ${word}`,
        onclick: () => {
          if (!this.unfolded.delete(name)) this.unfolded.add(name);
          this.show();
          changed([...this.unfolded]);
        },
      }, make("i.light"), word);
      button.dataset.section = name;
      return { name, part, button };
    });
    this.element = make("div.folds", {}, ...this.rows.map(({ button }) => button), beside);
    this.show();
  }

  unfold(names) {
    this.unfolded = new Set(names);
    this.show();
  }

  /** After the parts: they say what there is to show. */
  show() {
    for (const { name, part, button } of this.rows) {
      const open = this.unfolded.has(name);
      button.setAttribute("aria-expanded", open);
      button.dataset.light = part.light ?? "";
      button.style.display = part.absent ? "none" : "";
      part.element.style.display = open && !part.absent ? "" : "none";
    }
  }
}
