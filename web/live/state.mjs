// What is known of one run, from its folder and from events. Nothing here draws.

export const ENDED = ["finished", "paused", "stopped", "interrupted", "failed"];

export class RunState {
  constructor() {
    this.begin(null);
  }

  /** Forget everything: another run begins. */
  begin(run) {
    Object.assign(this, { run, live: false, state: run ? "loading" : "idle", note: "", notice: "", pending: [] });
    Object.assign(this, { iterations: 0, progress: null, times: {}, group: null, gallery: null });
    Object.assign(this, { ballot: null, taste: null, result: null });
    Object.assign(this, { config: null, plan: null, reports: [], diagnosis: null, problems: [], serial: 0 });
  }

  /** An event of this run. */
  hear(name, data) {
    this.iterations = data.iterations ?? this.iterations;
    this.serial = data.serial;
    if (name === "status") this.#status(data);
    if (name === "progress") this.#progress(data);
    if (name === "report") this.#report(data);
    if (name === "group") this.group = data;
    if (name === "ballot" && !this.#knowsMore(data)) this.ballot = timed(data);
    if (name === "gallery") this.gallery = data;
    if (name === "taste") this.taste = data;
  }

  /** What its node says while it has no run yet. */
  prepared({ state, note, serial }) {
    Object.assign(this, { state, note, serial, notice: "", live: false, pending: [] });
  }

  /** What the run's folder tells; `mine` says that what the server remembers is about this node. */
  restore(stored, mine) {
    this.config = stored.config;
    this.plan = stored.plan;
    this.problems = stored.problems;
    this.result = stored.result;
    this.gallery = stored.gallery;
    this.taste = stored.taste;
    if (!this.reports.length) this.diagnosis = stored.diagnosis;
    this.reports = merged(stored.reports, this.reports);
    this.iterations = stored.plan?.iterations ?? this.iterations;
    if (mine) this.#said(stored.said, stored.live);
    else if (!this.serial) this.#asleep();
    if (ENDED.includes(this.state)) this.live = false;
  }

  /** The ballot as it is after a vote. */
  voted(ballot) {
    if (this.ballot?.id === ballot.id && !this.#knowsMore(ballot)) this.ballot = timed({ behind: this.ballot.behind, ...ballot });
  }

  /** Answers and events travel apart: one that was overtaken would take back what was pressed since. */
  #knowsMore({ id, changes }) {
    return this.ballot?.id === id && this.ballot.changes > changes;
  }

  /** The run's folder does not exist (any more). */
  gone() {
    const run = this.run;
    this.begin(null);
    this.notice = `The folder of the run "${run}" is gone. The next run starts anew.`;
  }

  /** The server does not answer. */
  lost() {
    if (this.live || this.state === "preparing") Object.assign(this, { live: false, state: "lost", pending: [] });
    this.serial = 0; // another server counts anew
  }

  /** Whole iterations. */
  get done() {
    return this.reports.length ? this.reports[this.reports.length - 1].iteration + 1 : 0;
  }

  /** The iteration that is being done, from 0. */
  get current() {
    const at = Math.max(this.done, this.live ? (this.progress?.iteration ?? 0) : 0);
    return this.endless ? at : Math.min(at, Math.max(this.iterations - 1, 0));
  }

  /** Whether the run goes on until it is stopped. */
  get endless() {
    return this.iterations < 0;
  }

  /** What the server remembers, unless newer events came while it was fetched. */
  #said(said, live) {
    this.progress ??= said.progress;
    this.times = { ...said.progress, ...this.times };
    this.group ??= said.group;
    if (said.serial < this.serial) return;
    Object.assign(this, { state: said.state, note: said.note, pending: said.pending, live });
    this.ballot = timed(said.ballot);
  }

  /** A run that nobody trains: all that is known stands in its folder. */
  #asleep() {
    const whole = this.iterations > 0 && this.done >= this.iterations;
    Object.assign(this, { live: false, state: whole ? "finished" : "resting", pending: [] });
  }

  #status(data) {
    Object.assign(this, { state: data.state, note: data.note, pending: data.pending });
    this.live = !ENDED.includes(data.state);
  }

  #progress(data) {
    Object.assign(this, { state: data.phase, note: data.note ?? "", progress: data, times: data, live: true });
  }

  #report(data) {
    this.reports = merged(this.reports, [data.report]);
    this.diagnosis = data.diagnosis;
    this.times = { ...this.times, ...data };
  }
}

/** A ballot with the time of this machine at which it closes. */
function timed(ballot) {
  return ballot && { ...ballot, until: Date.now() + 1000 * ballot.seconds_left };
}

/** Reports by iteration; where both have one the later counts, and with it nothing of the former goes on. */
export function merged(former, later) {
  if (!later.length) return former;
  const first = later[0].iteration;
  return [...former.filter((report) => report.iteration < first), ...later];
}
