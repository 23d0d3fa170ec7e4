// The group that waits for a person's vote, in the middle of the view; what came too late, in one line.

import { Candidate } from "./candidate.mjs";
import { make, write } from "./dom.mjs";
import { duration } from "./format.mjs";
import { Lightbox } from "./lightbox.mjs";
import { tile, tiling } from "./tiling.mjs";

const WORDS = {
  thumbs: {
    title: "Which do you like?",
    hint: "Keys: 1–9 choose, ↑ likes, ↓ dislikes.",
    done: "Images without a thumb count as neither good nor bad.",
  },
  ranking: {
    title: "Click them in order, the best first",
    hint: "Keys: 1–9 rank an image. Shift+click: a tie.",
    done: "Images that are not ranked share the last place.",
  },
};
const SETTLED = "Change one, or press Done to go on.";
const LATE = "Late votes are kept. They count if this iteration is done again, after a resume.";
const RESTING = "Votes are kept and count when the training goes on.";

export class Ballot {
  /**
   * @param {Votes} votes of votes.mjs
   * @param {(image: object, version: string) => string} address of a picture
   */
  constructor(votes, address) {
    Object.assign(this, { votes, address, candidates: [], shape: 1, unfolded: null });
    this.title = make("h4");
    this.prompt = make("span.caption");
    this.clock = make("b.clock", { title: "The next images are made while you look; the training goes on by itself when the time is up." });
    this.fill = make("i.fill");
    this.grid = make("div.candidates");
    this.trouble = make("p.trouble");
    this.trouble.setAttribute("role", "alert");
    this.count = make("span.hint");
    this.skip = make("button.button.skip", {
      type: "button", textContent: "Skip", title: "Nothing is learned from this group.", onclick: () => votes.give({}, "skipped"),
    });
    this.done = make("button.button.done", { type: "button", textContent: "Done", onclick: () => votes.give({}, "done") });
    this.fold = make("button.button.fold", { type: "button", onclick: () => this.#fold() });
    this.head = make("div.row", {}, make("div.asked", {}, this.title, this.prompt), this.clock, this.fold);
    this.body = make("div.ballot-body", {},
      make("div.bar.thin", {}, this.fill), make("div.row", {}, this.count, this.skip, this.done), this.grid, this.trouble);
    this.element = make("section.ballot", { onkeydown: (event) => this.#key(event) }, this.head, this.body);
    this.lightbox = new Lightbox();
    this.ticking = null;
  }

  /** Whether it takes the room of the curves and pictures. */
  get large() {
    return this.mode === "voting" || (this.mode !== null && this.unfolded === this.ballot.id);
  }

  show(state) {
    const { ballot, run } = state;
    this.votes.follow(run, ballot);
    this.mode = mode(state);
    this.element.dataset.mode = this.mode ?? "none";
    this.element.dataset.ballot = ballot?.id ?? "";
    this.#tick(this.mode === "voting");
    if (!this.mode) return;
    if (this.ballot?.id !== ballot.id) this.#begin(ballot);
    this.ballot = ballot;
    this.#draw();
  }

  resize() {
    if (!this.candidates.length || !this.grid.clientWidth) return;
    const found = tiling(this.candidates.length, this.shape, this.grid, 8);
    tile(this.grid, found);
    this.grid.dataset.small = Math.min(found.width, found.height) < 110 ? "yes" : "";
  }

  close() {
    this.#tick(false);
    this.lightbox.close();
  }

  #begin(ballot) {
    this.candidates = ballot.pictures.map((picture, index) => {
      const url = this.address(picture, ballot.id);
      return new Candidate(index, url, {
        way: ballot.way,
        vote: (value) => this.votes.thumb(index, value),
        rank: (tie) => this.votes.place(index, tie),
        enlarge: () => this.lightbox.picture(url, ballot.prompt),
        loaded: ({ naturalWidth, naturalHeight }) => {
          if (this.shape === naturalWidth / naturalHeight) return;
          this.shape = naturalWidth / naturalHeight;
          this.resize();
        },
      });
    });
    this.grid.replaceChildren(...this.candidates.map(({ element }) => element));
  }

  #draw() {
    const { ballot, mode: now } = this;
    const { title, hint, done } = WORDS[ballot.way];
    const votes = this.votes.all();
    const given = Object.keys(votes).length;
    write(this.title, now === "voting" ? title : folded(ballot, now));
    write(this.prompt, now === "voting" ? `“${ballot.prompt}”` : "");
    this.prompt.title = ballot.prompt;
    this.title.title = this.title.textContent;
    this.fill.style.width = `${(100 * given) / ballot.images}%`;
    const last = Math.max(0, ...Object.values(votes));
    const complete = given === ballot.images;
    this.candidates.forEach((candidate, index) => candidate.show(votes[index], complete ? last : 0));
    write(this.count, `${given} of ${ballot.images}${now === "voting" ? ` · ${complete ? SETTLED : hint}` : ""}`);
    write(this.trouble, this.votes.trouble || (now === "voting" ? "" : now === "late" ? LATE : RESTING));
    this.trouble.dataset.kind = this.votes.trouble ? "bad" : "";
    this.done.title = done;
    this.done.disabled = !given;
    write(this.fold, this.large ? "Close" : now === "late" ? "Vote late" : "Vote");
    this.element.dataset.large = this.large ? "yes" : "";
    this.#time();
    if (this.large) this.resize();
  }

  #fold() {
    this.unfolded = this.large ? null : this.ballot.id;
    this.votes.changed();
  }

  #tick(on) {
    if (on) this.ticking ??= setInterval(() => this.#time(), 500);
    else if (this.ticking) this.ticking = clearInterval(this.ticking) ?? null;
  }

  #time() {
    const left = Math.max(0, (this.ballot.until - Date.now()) / 1000);
    const { behind } = this.ballot;
    const rest = behind ? ` · ${behind} more ${behind > 1 ? "groups wait" : "group waits"}` : "";
    write(this.clock, this.mode === "voting" ? `${duration(left)} left${rest}` : "");
    this.clock.dataset.soon = left < 15 ? "yes" : "";
  }

  /** Everything that can be voted can be voted without a mouse; no key of the panel is one of the canvas. */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.stopPropagation();
    const at = this.candidates.findIndex(({ element }) => element.contains(document.activeElement));
    const digit = /^[1-9]$/.test(event.key) ? Number(event.key) - 1 : -1;
    if (digit >= 0 && digit < this.candidates.length) {
      this.candidates[digit].focus();
      if (this.ballot.way === "ranking") this.votes.place(digit);
    } else if (at >= 0 && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      const count = this.candidates.length;
      this.candidates[(at + (event.key === "ArrowRight" ? 1 : count - 1)) % count].focus();
    } else if (at >= 0 && this.ballot.way === "thumbs" && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
      this.votes.thumb(at, event.key === "ArrowUp" ? 1 : -1);
    } else return;
    event.preventDefault();
  }
}

/** "voting": the run waits. "resting": nobody waits right now. "late": time is up. null: nothing to vote on. */
function mode({ ballot, live, state }) {
  if (!ballot?.pictures.length || !ballot.pictures.every(Boolean)) return null;
  if (ballot.state === "open") return live ? "voting" : "resting";
  return ballot.state === "time is up" && state !== "finished" ? "late" : null;
}

/** The one line of a ballot that is not waited for. */
function folded({ prompt, votes, late, images, fallback }, now) {
  if (now === "resting") return `“${prompt}” waits for your vote`;
  const given = Object.keys(votes).length;
  if (late.length) return `“${prompt}”: ${given} of ${images} voted, late`;
  const outcome = fallback.startsWith("scored") ? "the fallback scored it" : fallback ? "skipped" : `${given} of ${images} count`;
  return `Time was up for “${prompt}”: ${outcome}`;
}
