// What came of a run that is over: held-out rewards before and after, and its LoRA, ready to be loaded.

import { make, write } from "./dom.mjs";
import { short } from "./format.mjs";
import { evaluations, smoothed, weighted } from "./smoothing.mjs";

export class Result {
  /** @param {(file: string) => void} load puts a node that loads the file into the workflow */
  constructor(load) {
    this.figures = make("div.gains");
    this.files = make("select.files", { title: "Files of this run's LoRA", onchange: () => this.#choose() });
    this.button = make("button.button.load", {
      type: "button", textContent: "Add Load LoRA", onclick: () => load(this.loras[this.files.selectedIndex].listed),
    });
    this.element = make("div.result", {}, this.figures, make("div.row", {}, this.files, this.button));
  }

  show({ live, result, reports, config }) {
    this.there = !live && Boolean(result);
    this.element.style.display = this.there ? "" : "none";
    if (!this.there) return;
    const gained = gains(evaluations(reports)) || trained(reports, config?.reward_weights);
    write(this.figures, gained);
    this.figures.title = gained;
    if (result.loras === this.loras) return;
    this.loras = result.loras;
    this.files.replaceChildren(...this.loras.map(({ listed, path }) => make("option", { textContent: listed ?? path, title: path })));
    this.#choose();
  }

  #choose() {
    const { listed, path } = this.loras[this.files.selectedIndex];
    this.files.title = path;
    this.button.disabled = listed == null;
    this.button.title = listed == null
      ? "ComfyUI's LoRA loaders do not look into this folder."
      : "Puts a Load LoRA node with this file into the workflow, on the model that was trained.";
  }
}

/** "adherence 0.53 → 0.97", every reward of the first and of the last evaluation. */
function gains(points) {
  if (points.length < 2) return "";
  const [first, last] = [points[0].rewards, points[points.length - 1].rewards];
  const told = Object.keys(last).filter((name) => first[name]?.mean != null && last[name].mean != null)
    .map((name) => `${name} ${short(first[name].mean)} → ${short(last[name].mean)}`);
  return `${told.length && told.length < 3 ? "Held-out " : ""}${told.join(" · ")}`;
}

/** Where a run was left before its second look at held-out prompts. */
function trained(reports, weights) {
  const course = smoothed(reports.map(({ rewards }) => weighted(rewards, weights, "mean"))).filter((value) => value != null);
  return course.length < 2 ? "" : `Reward while training ${short(course[0])} → ${short(course[course.length - 1])}`;
}
