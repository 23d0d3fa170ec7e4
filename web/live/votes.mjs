// The votes on one ballot: those that the server has, and over them those on their way to it.

export class Votes {
  /**
   * @param {(run: string, ballot: string, votes: object, end: string | null) => Promise<void>} cast sends votes
   * @param {() => void} changed hears that there is something to draw
   */
  constructor(cast, changed) {
    Object.assign(this, { cast, changed, ballot: null, run: null, trouble: "" });
    this.onTheWay = new Map();
    this.sending = Promise.resolve();
  }

  /** The ballot as the server has it. */
  follow(run, ballot) {
    if (ballot?.id !== this.ballot?.id) {
      this.onTheWay.clear();
      this.trouble = "";
    }
    Object.assign(this, { run, ballot });
  }

  /** {image: vote} as the voter sees it. */
  all() {
    const votes = { ...this.ballot?.votes };
    for (const [image, { vote }] of this.onTheWay) {
      if (vote == null) delete votes[image];
      else votes[image] = vote;
    }
    return votes;
  }

  /** Give votes ({image: vote}, null takes one back), in the order of the calls; `end` closes the ballot. */
  give(patch, end = null) {
    const { run, ballot } = this;
    const sent = {};
    for (const [image, vote] of Object.entries(patch)) this.onTheWay.set(image, { vote, sent });
    this.sending = this.sending.then(() => this.#send(run, ballot.id, patch, end, sent));
    this.changed();
  }

  /** Thumb up (1) or down (-1); the same again takes it back. */
  thumb(image, vote) {
    this.give({ [image]: this.all()[image] === vote ? null : vote });
  }

  /** The next place for an image, or the last one again (`tie`); an image that has one loses it, and others move up. */
  place(image, tie = false) {
    const before = this.all();
    const after = { ...before };
    const last = Math.max(0, ...Object.values(before));
    if (image in after) delete after[image];
    else after[image] = tie && last ? last : last + 1;
    const places = [...new Set(Object.values(after))].sort((a, b) => a - b);
    for (const key of Object.keys(after)) after[key] = places.indexOf(after[key]) + 1;
    const touched = Object.keys({ ...before, ...after }).filter((key) => before[key] !== after[key]);
    this.give(Object.fromEntries(touched.map((key) => [key, after[key] ?? null])));
  }

  async #send(run, id, patch, end, sent) {
    let trouble = "";
    try {
      await this.cast(run, id, patch, end);
    } catch (error) {
      trouble = `Your vote was not taken: ${error.message}`;
    }
    if (this.ballot?.id === id) this.trouble = trouble;
    for (const [image, waits] of this.onTheWay) if (waits.sent === sent) this.onTheWay.delete(image);
    this.changed();
  }
}
