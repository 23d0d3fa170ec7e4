// Between one node and what the server says about its run.

import { castVotes, command, keepLora, listen, liveRuns, pictureUrl, sayWrong, storedRun } from "../events.js";
import { addLoader } from "./load_lora.mjs";
import { ENDED, RunState } from "./state.mjs";
import { LiveView } from "./view.mjs";

export const KEPT_AS = "mixgrpo_run";
export const UNFOLDED_AS = "mixgrpo_unfolded";
const FORMERLY = { height: 900, unfolded: ["health", "figures", "plan", "pictures"] };

export class NodeLink {
  /**
   * @param {LGraphNode} node that shows the view
   * @param {(place: string) => boolean} here whether a place in its workflow ("12", "5:12") is what it shows
   * @param {{forward(event: Event): void, fit(): void, reveal(node: LGraphNode): void}} outside
   */
  constructor(node, here, { forward, fit, reveal }) {
    Object.assign(this, { node, here, reveal });
    this.state = new RunState();
    this.view = new LiveView({
      ask: (name) => this.ask(name),
      cast: async (run, ballot, votes, end) => this.state.voted(await castVotes(run, ballot, votes, end)),
      address: pictureUrl,
      choose: (iteration) => this.choose(iteration),
      wrong: (image, wrong) => this.wrong(image, wrong),
      load: (file) => this.load(file),
      keep: (unfolded) => (node.properties[UNFOLDED_AS] = unfolded),
      forward,
      fit,
    });
    this.stop = listen(this);
    this.view.show(this.state);
  }

  close() {
    this.stop();
    this.view.close();
  }

  /** Whether an event speaks of this node: the same place in the same workflow. What a script queued has none. */
  concerns({ node, workflow }) {
    const root = this.node.graph?.rootGraph ?? this.node.graph;
    return Boolean(root) && workflow === root.id && this.here(String(node));
  }

  async heard(name, data) {
    if (data.run === null) return this.prepared(data);
    if (data.run !== this.state.run) {
      this.node.properties[KEPT_AS] = data.run;
      this.state.begin(data.run);
      this.fetch(data.run); // a resumed run has a history
    }
    this.state.hear(name, data);
    this.view.show(this.state);
    if (name === "status" && ENDED.includes(data.state)) this.fetch(data.run); // with what it left
  }

  /** Make the LoRA of an iteration the run's. */
  async choose(iteration) {
    const { run } = this.state;
    try {
      this.state.gallery = await keepLora(run, iteration);
      this.state.notice = "";
      await this.fetch(run); // its files are others now
    } catch (error) {
      this.state.notice = error.message;
    }
    this.view.show(this.state);
  }

  /** Say that the taste is wrong about an image, or take that back; what became of that. */
  async wrong(image, wrong) {
    const { run } = this.state;
    try {
      const { said } = await sayWrong(run, image, wrong);
      this.state.notice = "";
      return said;
    } catch (error) {
      this.state.notice = error.message;
      throw error;
    } finally {
      this.view.show(this.state);
    }
  }

  /** A LoRA of this run, into the workflow. */
  load(file) {
    try {
      this.reveal(addLoader(this.node, file));
      this.state.notice = "";
    } catch (error) {
      this.state.notice = error.message;
    }
    this.view.show(this.state);
  }

  /** It has no run yet, or failed before it had one. */
  prepared(said) {
    this.state.prepared(said);
    this.view.show(this.state);
  }

  lost() {
    this.state.lost();
    this.view.show(this.state);
  }

  back() {
    this.recall();
  }

  /** After the workflow was loaded: what was unfolded, and the live run of this node, else the one it remembers. */
  async restore() {
    const { properties, size } = this.node;
    properties[UNFOLDED_AS] ??= size[1] < FORMERLY.height ? [] : FORMERLY.unfolded; // it once showed all
    this.view.unfold(properties[UNFOLDED_AS]);
    await this.recall();
  }

  async recall() {
    const { properties } = this.node;
    const { runs, preparing } = await liveRuns().catch(() => ({ runs: [], preparing: null }));
    const mine = runs.find((run) => this.concerns(run));
    const run = mine?.run ?? properties[KEPT_AS];
    if (run) {
      properties[KEPT_AS] = run;
      if (this.state.run !== run) this.state.begin(run);
      await this.fetch(run);
    } else if (this.state.state === "lost") {
      this.state.begin(null);
      this.view.show(this.state);
    }
    if (!mine && preparing && this.concerns(preparing) && preparing.serial > this.state.serial) this.prepared(preparing);
  }

  async fetch(run) {
    try {
      const stored = await storedRun(run);
      if (this.state.run !== run) return;
      if (stored) this.state.restore(stored, stored.said && this.concerns(stored.said));
      else if (!this.state.serial) this.state.gone();
    } catch (error) {
      this.state.notice = `The run's history cannot be fetched: ${error.message}`;
    }
    this.view.show(this.state);
  }

  async ask(name) {
    try {
      await command(this.state.run, name); // an event tells that it waits
      if (name === "sample") this.view.reveal("gallery");
      this.state.notice = "";
    } catch (error) {
      this.state.notice = error.message;
    }
    this.view.show(this.state);
  }
}
