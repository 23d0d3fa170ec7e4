// What an objective or a regulariser reports besides the usual signs: each figure by its name, with its course.

import { draw, make, write } from "./dom.mjs";
import { short } from "./format.mjs";

const USUAL = new Set(["steps", "loss", "clip_low", "clip_high", "kl", "grad_norm", "ratio_first", "ratio_max", "ratio_noise",
  "recomputed"]);
const WIDTH = 120;
const HEIGHT = 18;

export class Figures {
  constructor() {
    this.rows = make("div.reported-figures");
    this.element = make("section.reports", {}, make("h4", {}, "Figures of the update"), this.rows);
    this.made = new Map();
    this.absent = true;
  }

  show({ reports }) {
    const names = [...new Set(reports.flatMap(({ update }) => Object.keys(update)))].filter((name) => !USUAL.has(name));
    this.absent = !names.length;
    if (names.join("\n") !== [...this.made.keys()].join("\n")) this.#fill(names);
    for (const [name, { value, line }] of this.made) {
      const course = reports.map(({ update }) => update[name]).filter((found) => Number.isFinite(found));
      write(value, short(course[course.length - 1], 3));
      line.setAttribute("points", points(course));
    }
  }

  #fill(names) {
    this.made = new Map(names.map((name) => {
      const line = draw("polyline");
      return [name, { value: make("b"), line, name: make("span", {}, name.replaceAll("_", " ")) }];
    }));
    this.rows.replaceChildren(...[...this.made.values()].map(({ value, line, name }) =>
      make("div.reported", {}, name, draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" }, line), value)));
  }
}

/** The course as points of a line from left to right, the least value at the bottom. */
function points(course) {
  const low = Math.min(...course);
  const span = Math.max(...course) - low || 1;
  const step = WIDTH / Math.max(1, course.length - 1);
  return course.map((value, i) => `${(i * step).toFixed(1)},${(HEIGHT - 1 - ((value - low) / span) * (HEIGHT - 2)).toFixed(1)}`).join(" ");
}
