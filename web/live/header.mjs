// State, phase, progress and time, with the buttons beside them.

import { bytes, duration, pace } from "./format.mjs";
import { make, write } from "./dom.mjs";

const WORDS = {
  idle: ["Not run yet", "Press Run: reward, window and pictures appear here while it trains."],
  preparing: ["Getting ready", "The prompts are encoded, then the model makes one image and the rewards are read."],
  loading: ["Loading"],
  sampling: ["Sampling"],
  scoring: ["Scoring"],
  voting: ["Your vote"],
  updating: ["Updating"],
  evaluating: ["Held-out samples"],
  picturing: ["Pictures"],
  saving: ["Saving"],
  paused: ["Paused", "Run again to go on where it stopped."],
  stopped: ["Stopped", "The LoRA is kept. Run again to go on."],
  finished: ["Finished"],
  interrupted: ["Cancelled", "All that was saved is kept. Run again to go on."],
  failed: ["Failed"],
  resting: ["Not running", "Run again to go on where it stopped."],
  lost: ["No connection", "Waiting for the server."],
};
const SOON = { sample: "pictures for the gallery", save: "saving", pause: "a pause", stop: "stopping and keeping the LoRA" };
const KINDS = {
  voting: "wait", idle: "quiet", resting: "quiet", paused: "wait", interrupted: "wait", lost: "wait",
  stopped: "good", finished: "good", failed: "bad",
};

export class Header {
  /**
   * @param {Element} buttons
   * @param {Element} result
   */
  constructor(buttons, result) {
    this.badge = make("span.badge");
    this.run = make("span.run");
    this.count = make("span.count");
    this.total = make("span.total");
    this.bar = make("i.fill");
    this.inner = make("i.fill.step");
    this.phase = make("span.phase");
    this.note = make("p.note");
    this.figures = Object.fromEntries(
      [["left", "left"], ["pace", "per iteration"], ["memory", "peak memory"]].map(([key, word]) => {
        const value = make("b");
        const label = make("small", {}, word);
        return [key, { value, label, element: make("span.figure", {}, value, label) }];
      }),
    );
    this.element = make("section.header", {},
      make("div.row", {},
        make("div.who", {}, this.badge, this.run),
        make("div.at", {}, make("small", {}, "iteration "), this.count, this.total)),
      make("div.bars", {}, make("div.bar", {}, this.bar), make("div.bar.thin", {}, this.inner)),
      make("div.row.now", {}, this.phase,
        make("div.figures", {}, ...Object.values(this.figures).map((figure) => figure.element))),
      buttons, result, this.note);
  }

  show(state) {
    const { progress, times, live } = state;
    const [word, hint] = WORDS[state.state] ?? [state.state];
    write(this.badge, word);
    this.badge.dataset.kind = KINDS[state.state] ?? "busy";
    write(this.run, state.run ?? "");
    this.run.title = state.run ?? "";
    const started = state.iterations !== 0;
    write(this.count, started ? String(live ? state.current + 1 : state.done) : "–");
    write(this.total, state.iterations > 0 ? ` / ${state.iterations}` : state.endless ? " / ∞" : "");
    this.bar.style.width = `${state.iterations > 0 ? (100 * state.done) / state.iterations : 0}%`;
    const share = live && progress && progress.total ? progress.done / progress.total : 0;
    this.inner.style.width = `${100 * share}%`;
    write(this.phase, live && progress ? within(state.state, progress) : "");
    this.element.dataset.started = started ? "yes" : "";
    const taken = state.pending.map((command) => SOON[command]).join(" and ");
    const told = state.state === "finished" && state.result ? "" : state.note || (hint ?? ""); // the result says more
    write(this.note, state.notice || (taken && `After this iteration: ${taken}.`) || told);
    this.note.title = this.note.textContent;
    this.note.dataset.kind = state.notice || state.state === "failed" ? "bad" : "";
    write(this.figures.left.value, duration(live ? times.seconds_left : total(state.reports) || null));
    write(this.figures.left.label, live ? "left" : "in all");
    write(this.figures.pace.value, pace(times.seconds_per_iteration ?? meanSeconds(state.reports)));
    write(this.figures.memory.value, bytes(times.peak_memory ?? peak(state.reports)));
  }
}

/** How far what the badge names has come. */
function within(state, { phase, done, total }) {
  return state === phase && phase !== "scoring" && total ? `${done} of ${total}` : "";
}

/** Seconds per iteration of a run that is over, from its last reports. */
function meanSeconds(reports) {
  const last = reports.slice(-20);
  return last.length ? total(last) / last.length : null;
}

/** Seconds of iterations. */
function total(reports) {
  return reports.reduce((sum, report) => sum + Object.values(report.seconds).reduce((a, b) => a + b, 0), 0);
}

function peak(reports) {
  return reports.reduce((most, report) => Math.max(most, report.peak_memory ?? 0), 0);
}
