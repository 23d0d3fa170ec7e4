// The live view: what stands where. Each part draws one thing from the state and knows nothing of the others.

import { make } from "./dom.mjs";
import { Ballot } from "./ballot.mjs";
import { Buttons } from "./buttons.mjs";
import { Figures } from "./figures.mjs";
import { Header } from "./header.mjs";
import { Health } from "./health.mjs";
import { Plan } from "./plan.mjs";
import { Pictures } from "./pictures.mjs";
import { RewardChart } from "./reward_chart.mjs";
import { Votes } from "./votes.mjs";

export const WIDTH = 460;
export const HEIGHT = 760;

export class LiveView {
  /**
   * @param {{ask(command: string): void, cast(run: string, ballot: string, votes: object, end: string | null): Promise<void>,
   *   address(image: object, version: string): string, forward(event: Event): void}} outside
   */
  constructor({ ask, cast, address, forward }) {
    this.ballot = new Ballot(new Votes(cast, () => this.show(this.state)), address);
    const below = [new RewardChart(), new Health(), new Figures(), new Plan(), new Pictures(address), new Buttons(ask)];
    this.parts = [new Header(), ...below, this.ballot];
    const [header, ...others] = this.parts.slice(0, -1).map((part) => part.element);
    const inner = make("div.stack", {}, header, this.ballot.element, ...others);
    this.element = make("div.view", {}, inner);
    this.element.classList.add("mixgrpo-live");
    this.element.addEventListener("wheel", forward, { passive: true });
    this.element.addEventListener("pointerdown", forward);
    this.resized = new ResizeObserver(() => this.parts.forEach((part) => part.resize?.()));
    for (const part of this.parts) if (part.resize) this.resized.observe(part.element);
    this.waiting = null;
  }

  /** Draw the state, at most once per frame. */
  show(state) {
    this.state = state;
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.element.dataset.state = this.state.state;
      for (const part of this.parts) part.show(this.state);
      this.element.dataset.voting = this.ballot.large ? "yes" : "";
    });
  }

  close() {
    if (this.waiting) cancelAnimationFrame(this.waiting);
    this.resized.disconnect();
    for (const part of this.parts) part.close?.();
  }
}
