// Where the window stands: on the curve of sigmas, and over the whole run.

import { draw, make, write } from "./dom.mjs";

const WIDTH = 400;
const CURVE = 64;
const RUN = 26;

export class Plan {
  constructor() {
    this.where = make("span.where");
    this.curve = draw("svg", { viewBox: `0 0 ${WIDTH} ${CURVE}`, preserveAspectRatio: "none", class: "mg-curve" });
    this.course = draw("svg", { viewBox: `0 0 ${WIDTH} ${RUN}`, preserveAspectRatio: "none", class: "mg-course" });
    this.ends = make("div.ends", {}, make("span", {}, "noise"), make("span", {}, "structure → detail"), make("span", {}, "image"));
    this.element = make("section.plan", {},
      make("div.row", {}, make("h4", {}, "Window"), this.where), this.curve, this.ends, this.course);
    this.course.append(draw("title", {}, "The window over the whole run: iterations across, steps down."));
    this.drawn = null;
  }

  show(state) {
    const { plan } = state;
    this.element.dataset.empty = plan ? "" : "yes";
    if (!plan) {
      write(this.where, "which steps are trained");
      this.#empty();
      return;
    }
    const at = state.current;
    const [first, stop] = windowAt(plan, at);
    write(this.where, words(plan, at, first, stop));
    const key = JSON.stringify([plan.shown, plan.windows.length, at, first, stop, state.run]);
    if (key === this.drawn) return;
    this.drawn = key;
    this.#curve(plan.sigmas, first, stop);
    this.#course(plan, at);
  }

  #empty() {
    if (this.drawn === "empty") return;
    this.drawn = "empty";
    const sigmas = Array.from({ length: 13 }, (_, i) => 3 * (1 - i / 12) / (1 + 2 * (1 - i / 12)));
    this.#curve(sigmas, 0, 0);
    this.course.replaceChildren();
  }

  #curve(sigmas, first, stop) {
    const steps = sigmas.length - 1;
    const x = (step) => (step / steps) * WIDTH;
    const y = (sigma) => 5 + (1 - sigma) * (CURVE - 10);
    const points = sigmas.map((sigma, step) => `${x(step)},${y(sigma)}`);
    const band = sigmas.slice(first, stop + 1).map((sigma, i) => `${x(first + i)},${y(sigma)}`);
    this.curve.replaceChildren(
      draw("polygon", { points: `0,${CURVE} ${points.join(" ")} ${WIDTH},${CURVE}`, class: "mg-under" }),
      ...sigmas.slice(1, -1).map((_, i) => draw("line", { x1: x(i + 1), x2: x(i + 1), y1: 0, y2: CURVE, class: "mg-tick" })),
      ...(stop > first ? [
        draw("rect", { x: x(first), width: x(stop) - x(first), y: 0, height: CURVE, class: "mg-window" }),
        draw("polygon", { points: `${x(first)},${CURVE} ${band.join(" ")} ${x(stop)},${CURVE}`, class: "mg-inside" }),
      ] : []),
      draw("polyline", { points: points.join(" "), class: "mg-sigma", "vector-effect": "non-scaling-stroke" }),
    );
  }

  #course(plan, at) {
    const steps = plan.sigmas.length - 1;
    const x = (iteration) => Math.min(iteration / plan.shown, 1) * WIDTH;
    const y = (step) => (step / steps) * RUN;
    const path = plan.windows.map(([from, first, stop], i) => {
      const to = plan.windows[i + 1]?.[0] ?? plan.shown;
      return `M${x(from)} ${y(first)}H${x(to)}V${y(stop)}H${x(from)}Z`;
    }).join("");
    const [title] = this.course.children;
    this.course.replaceChildren(
      ...(title?.tagName === "title" ? [title] : []),
      draw("path", { d: path, class: "mg-path" }),
      draw("rect", { x: 0, y: 0, width: x(at), height: RUN, class: "mg-past" }),
      draw("line", { x1: x(at + 0.5), x2: x(at + 0.5), y1: 0, y2: RUN, class: "mg-now", "vector-effect": "non-scaling-stroke" }),
    );
  }
}

/** [first, stop] of the steps that are trained in an iteration. */
export function windowAt({ windows }, iteration) {
  let found = [0, 0];
  for (const [from, first, stop] of windows) {
    if (from > iteration) break;
    found = [first, stop];
  }
  return found;
}

function words(plan, at, first, stop) {
  if (stop === first) return "no step is trained";
  const steps = plan.sigmas.length - 1;
  const here = stop - first === 1 ? `step ${first}` : `steps ${first}–${stop - 1}`;
  const next = plan.windows.find(([from]) => from > at);
  if (!next) return `${here} of ${steps}${plan.iterations > 0 ? ", to the end of the run" : " from here on"}`;
  const wait = next[0] - at;
  return `${here} of ${steps} · next shift in ${wait} iteration${wait === 1 ? "" : "s"}`;
}
