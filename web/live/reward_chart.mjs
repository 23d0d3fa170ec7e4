// The reward over the iterations: mean with its spread, smoothed, single rewards, and held-out points.

import uPlot from "../lib/uPlot.mjs";
import { colour, make, write } from "./dom.mjs";
import { short } from "./format.mjs";
import { evaluations, smoothed, weighted } from "./smoothing.mjs";

const SINGLE = ["single-1", "single-2", "single-3", "single-4", "single-5"];

export class RewardChart {
  constructor() {
    this.chosen = new Map(); // what the artist switched on or off
    this.watched = new Set();
    this.chips = make("div.chips");
    this.readout = make("div.readout");
    this.box = make("div.chart");
    this.empty = make("div.empty", {}, "The reward appears after the first iteration.");
    this.element = make("section.reward", {},
      make("div.row", {}, make("h4", {}, "Reward"), this.chips), this.box, this.empty, this.readout);
    this.names = null;
  }

  show(state) {
    this.state = state;
    if (state.run !== this.run) this.chosen.clear();
    this.run = state.run;
    const curves = gathered(state);
    const names = JSON.stringify([curves.names, curves.watched]);
    if (names !== this.names) {
      this.names = names;
      this.watched = new Set(curves.watched);
      this.#rebuild(curves);
    } else {
      this.chart?.setData(curves.data);
    }
    const empty = curves.data[0].length === 0;
    this.element.dataset.empty = empty ? "yes" : "";
    this.empty.style.display = empty ? "" : "none";
    this.#tell(null);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (this.chart && width && height && (width !== this.chart.width || height !== this.chart.height)) {
      this.chart.setSize({ width, height });
    }
  }

  close() {
    this.chart?.destroy();
  }

  #rebuild(curves) {
    this.chart?.destroy();
    const ink = (name) => () => colour(this.element, name);
    const grid = { stroke: ink("grid"), width: 1 };
    const axis = { stroke: ink("faint"), grid, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const line = (name, options) => ({ stroke: ink(name), width: 1.5, points: { show: false }, spanGaps: true, ...options });
    const none = { width: 0, stroke: "transparent", points: { show: false } };
    this.series = [
      {},
      { ...none, key: "each" },
      { ...none, key: "each" },
      line("reward", { key: "each", width: 1, alpha: 0.55 }),
      line("reward", { key: "smooth", width: 2.5 }),
      line("held-out", { key: "held", width: 1.5, points: { show: true, size: 7, fill: ink("held-out"), width: 0 } }),
      ...curves.names.flatMap((name, index) => [
        line(SINGLE[index % SINGLE.length], { key: `one:${name}`, scale: this.#scale(name), width: 1.5 }),
        line(SINGLE[index % SINGLE.length], {
          key: `one:${name}`, scale: this.#scale(name), width: 1, dash: [4, 4],
          points: { show: true, size: 6, fill: ink(SINGLE[index % SINGLE.length]), width: 0 },
        }),
      ]),
    ];
    const options = {
      width: this.box.clientWidth || 400,
      height: this.box.clientHeight || 170,
      padding: [8, 10, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { setScale: false }, move: unscaled },
      scales: { x: { time: false, range: (_, low, high) => [Math.min(low ?? 0, 0), Math.max(high ?? 0, 10)] }, y: { range: around }, watched: { range: around } },
      axes: [
        { ...axis, size: 24 },
        { ...axis, size: 46, values: words },
        ...(this.watched.size ? [{ ...axis, scale: "watched", side: 1, size: 40, values: words, grid: { show: false }, stroke: ink(SINGLE[curves.names.indexOf(curves.watched[0]) % SINGLE.length]) }] : []),
      ],
      series: this.series.map((series) => ({ ...series, show: this.#shown(series.key) })),
      bands: [{ series: [2, 1], fill: ink("band") }],
      hooks: { setCursor: [({ cursor }) => this.#tell(cursor.idx)] },
    };
    this.chart = new uPlot(options, curves.data, this.box);
    this.#drawChips(curves.names);
  }

  /** Rewards that are only watched have a range of their own, at the right. */
  #scale(name) {
    return this.watched.has(name) ? "watched" : "y";
  }

  /** What was chosen; else all that is trained on together, and each that is watched. */
  #shown(key) {
    if (!key) return true;
    return this.chosen.get(key) ?? (!key.startsWith("one:") || this.watched.has(key.slice("one:".length)));
  }

  #drawChips(names) {
    this.singles = names;
    this.element.dataset.several = names.length > 1 ? "yes" : "";
    const chip = (key, label, ink) => make("button.chip", {
      type: "button",
      title: `Show or hide: ${label}`,
      onclick: (event) => {
        this.chosen.set(key, !this.#shown(key));
        event.currentTarget.setAttribute("aria-pressed", this.#shown(key));
        this.series.forEach((series, index) => {
          if (series.key === key) this.chart.setSeries(index, { show: this.#shown(key) });
        });
      },
    }, make("i", { style: `background: var(--mg-${ink})` }), label);
    const chips = [["each", "mean", "reward-soft"], ["smooth", "smoothed", "reward"], ["held", "held-out", "held-out"]];
    if (names.length > 1) chips.push(...names.map((name, i) => [`one:${name}`, name, SINGLE[i % SINGLE.length]]));
    this.chips.replaceChildren(...chips.map(([key, label, ink]) => {
      const made = chip(key, label, ink);
      made.setAttribute("aria-pressed", this.#shown(key));
      return made;
    }));
  }

  /** The figures under the pointer, or the newest. */
  #tell(index) {
    const [x, , , each, smooth, held, ...single] = this.chart?.data ?? [[]];
    let at = index;
    if (at == null) for (at = x.length - 1; at > 0 && each[at] == null; at--);
    if (at < 0 || x[at] == null) return write(this.readout, "");
    const parts = [`iteration ${x[at]}`];
    if (each[at] != null) parts.push(`reward ${short(each[at], 3)}`);
    if (smooth[at] != null && !this.watched.size) parts.push(`smoothed ${short(smooth[at], 3)}`);
    const points = [["held-out", held]];
    this.singles.forEach((name, index) => this.watched.has(name) && points.push([name, single[2 * index + 1]]));
    for (const [name, values] of points) {
      let last = at;
      while (last >= 0 && values[last] == null) last--;
      if (last >= 0) parts.push(`${name} ${short(values[last], this.watched.size ? 2 : 3)}${last < at ? ` at ${x[last]}` : ""}`);
    }
    write(this.readout, parts.join(" · "));
  }
}

/** Columns for the chart: x, spread below and above, each, smoothed, held-out, and (mean, held-out) of single rewards. */
function gathered({ reports, config }) {
  const weights = config?.reward_weights ?? {};
  const tested = new Map(evaluations(reports).map((made) => [made.iteration, made.rewards]));
  const byX = new Map(reports.map((report) => [report.iteration + 1, report]));
  const x = [...new Set([...byX.keys(), ...tested.keys()])].sort((a, b) => a - b);
  const of = (figure) => (at) => (byX.has(at) ? weighted(byX.get(at).rewards, weights, figure) : null);
  const means = x.map(of("mean"));
  const spreads = x.map(of("spread"));
  const low = means.map((mean, i) => (mean == null || spreads[i] == null ? null : mean - spreads[i]));
  const high = means.map((mean, i) => (mean == null || spreads[i] == null ? null : mean + spreads[i]));
  const held = x.map((at) => (tested.has(at) ? weighted(tested.get(at), weights, "mean") : null));
  const names = [...new Set([...reports.flatMap((report) => Object.keys(report.rewards)),
    ...[...tested.values()].flatMap((rewards) => Object.keys(rewards))])];
  const watched = names.filter((name) => weights[name] === 0);
  const single = names.flatMap((name) => [
    x.map((at) => byX.get(at)?.rewards[name]?.mean ?? null),
    x.map((at) => tested.get(at)?.[name]?.mean ?? null),
  ]);
  return { names, watched, data: [x, low, high, means, smoothed(means), held, ...single] };
}

function words(_, ticks) {
  return ticks.map((tick) => short(tick));
}

/** A range with some air around what is drawn. */
function around(_, low, high) {
  if (low == null) return [0, 1];
  const air = 0.08 * (high - low) || 0.1;
  return [low - air, high + air];
}

/** The pointer's place in the chart's own pixels: the canvas it lies on may be zoomed. */
function unscaled(chart, left, top) {
  const zoom = chart.over.getBoundingClientRect().width / chart.over.offsetWidth || 1;
  return [left / zoom, top / zoom];
}
