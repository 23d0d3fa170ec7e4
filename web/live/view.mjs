// The live view: what stands where. Each part draws one thing from the state and knows nothing of the others.

import { make } from "./dom.mjs";
import { Attention } from "./attention.mjs";
import { Ballot } from "./ballot.mjs";
import { Buttons } from "./buttons.mjs";
import { Figures } from "./figures.mjs";
import { Folds } from "./folds.mjs";
import { Gallery } from "./gallery.mjs";
import { Header } from "./header.mjs";
import { Health } from "./health.mjs";
import { Plan } from "./plan.mjs";
import { Pictures } from "./pictures.mjs";
import { Result } from "./result.mjs";
import { RewardChart } from "./reward_chart.mjs";
import { Taste } from "./taste.mjs";
import { Votes } from "./votes.mjs";

export const WIDTH = 460;
const ALWAYS = 352; // the header with its buttons, the chart, the row of what can be unfolded
const VOTING = 408; // the header, and a ballot whose images can be told apart
const GAP = 6;

/** What can be unfolded, from above: its name in the workflow, its word, the height that it needs, what draws it. A part
 *  may have an `advice`, which is shown in any case, a `light`, and be `absent` while it has nothing to show. */
const SECTIONS = [
  ["health", "Health", 92, () => new Health()],
  ["figures", "Figures", 100, () => new Figures()],
  ["plan", "Window", 142, () => new Plan()],
  ["pictures", "Pictures", 220, ({ address }) => new Pictures(address)],
  ["taste", "Taste", 196, ({ address, wrong }) => new Taste(address, wrong)],
  ["gallery", "Gallery", 310, ({ address, choose }) => new Gallery(address, choose)],
];

export class LiveView {
  /**
   * @param {{ask(command: string): void, cast(run: string, ballot: string, votes: object, end: string | null): Promise<void>,
   *   address(image: object, version: string): string, load(file: string): void, forward(event: Event): void, fit(): void,
   *   choose(iteration: number | null): void, wrong(image: string, wrong: boolean): Promise<string | null>,
   *   keep(unfolded: string[]): void}} outside  `choose` makes the LoRA of an iteration the run's, `wrong` tells a taste
   *   that it is wrong about an image, `load` puts a LoRA into the workflow, `fit` hears that `least` changed,
   *   `keep` what the artist unfolded
   */
  constructor(outside) {
    this.outside = outside;
    this.ballot = new Ballot(new Votes(outside.cast, () => this.show(this.state)), outside.address);
    this.sections = SECTIONS.map(([name, word, height, made]) => ({ name, word, height, part: made(outside) }));
    this.attention = new Attention();
    this.folds = new Folds(this.sections, this.attention.element, (unfolded) => {
      outside.keep(unfolded);
      this.#fit();
    });
    const buttons = new Buttons(outside.ask);
    const result = new Result(outside.load);
    const header = new Header(buttons.element, result.element);
    const chart = new RewardChart();
    const parts = this.sections.map(({ part }) => part);
    this.parts = [header, chart, ...parts, buttons, result, this.folds, this.ballot];
    const advice = parts.map((part) => part.advice).filter(Boolean);
    const inner = make("div.stack", {}, header.element, this.ballot.element, chart.element, ...advice, this.folds.element,
      ...parts.map((part) => part.element));
    this.element = make("div.view", {}, inner);
    this.element.classList.add("mixgrpo-live");
    this.element.addEventListener("wheel", outside.forward, { passive: true });
    this.element.addEventListener("pointerdown", outside.forward);
    this.resized = new ResizeObserver(() => this.parts.forEach((part) => part.resize?.()));
    for (const part of this.parts) if (part.resize) this.resized.observe(part.element);
    this.waiting = null;
    this.voting = false;
    this.#measure();
  }

  /** The height that it needs. */
  get least() {
    const unfolded = this.sections.filter(({ name, part }) => this.folds.unfolded.has(name) && !part.absent);
    const height = unfolded.reduce((sum, section) => sum + section.height + GAP, ALWAYS);
    return this.voting ? Math.max(height, VOTING) : height;
  }

  /** Unfold these sections and no others, as the workflow has it; its node has the size for them. */
  unfold(names) {
    this.folds.unfold(names);
    this.#measure();
  }

  /** Unfold a section that the artist has asked something of. */
  reveal(name) {
    this.unfold([...this.folds.unfolded, name]);
    this.outside.keep([...this.folds.unfolded]);
    this.outside.fit();
  }

  /** Draw the state, at most once per frame. */
  show(state) {
    this.state = state;
    this.attention.hear(state);
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.element.dataset.state = this.state.state;
      for (const part of this.parts) part.show(this.state);
      this.voting = this.ballot.large;
      this.element.dataset.voting = this.voting ? "yes" : "";
      this.#fit();
    });
  }

  close() {
    if (this.waiting) cancelAnimationFrame(this.waiting);
    this.resized.disconnect();
    for (const part of this.parts) part.close?.();
  }

  #fit() {
    if (this.#measure()) this.outside.fit();
  }

  /** Whether another height is needed than before. */
  #measure() {
    const { least } = this;
    this.element.style.minHeight = `${least}px`;
    const changed = least !== this.measured;
    this.measured = least;
    return changed;
  }
}
