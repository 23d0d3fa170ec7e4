// Calls somebody who looks elsewhere: the title of the tab, and a notification where that was asked for, when a run ends
// or waits for a vote.

import { draw, make, write } from "./dom.mjs";

const BELL = "M10 2a5 5 0 0 0-5 5v4l-2 3v1h14v-1l-2-3V7a5 5 0 0 0-5-5zM8 16a2 2 0 0 0 4 0z";
const KEPT_AS = "mixgrpo.notify";
const ENDS = {
  finished: "has finished", stopped: "has stopped", paused: "is paused", failed: "has failed", interrupted: "was cancelled",
};

export class Attention {
  constructor() {
    this.button = make("button.notify", { type: "button", onclick: () => this.#ask() },
      draw("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, draw("path", { d: BELL })));
    this.button.setAttribute("aria-label", "Notify me");
    this.trouble = make("span.denied");
    this.element = make("div.attention", {}, this.trouble, this.button);
    this.before = {};
    this.#draw();
  }

  /** At once and not when the view is drawn: a tab that nobody sees is not drawn. */
  hear({ run, state, live, ballot }) {
    const { before } = this;
    this.before = { run, state, live, ballot: ballot?.id };
    const went = before.live && before.run === run;
    if (went && !live && ENDS[state]) call(run, ENDS[state]);
    else if (state === "voting" && ballot && before.ballot !== ballot.id) call(run, "waits for your vote");
  }

  async #ask() {
    if (wanted()) localStorage.removeItem(KEPT_AS);
    else if (!globalThis.Notification) write(this.trouble, "This browser has no notifications.");
    else if ((await Notification.requestPermission()) === "granted") localStorage.setItem(KEPT_AS, "yes");
    else write(this.trouble, "The browser blocks notifications of this page.");
    this.#draw();
  }

  #draw() {
    this.button.setAttribute("aria-pressed", wanted());
    this.button.title = "Notify me: a notification when a run ends or waits for a vote while you look elsewhere, for all workflows of this browser.";
  }
}

function wanted() {
  return localStorage.getItem(KEPT_AS) === "yes" && globalThis.Notification?.permission === "granted";
}

/** Say it to who does not look; somebody who does sees it on the node. */
function call(run, what) {
  if (!document.hidden && document.hasFocus()) return;
  title.call(`● ${run} ${what}`);
  if (!wanted()) return;
  const shown = new Notification(`MixGRPO: ${run}`, { body: `${run} ${what}.`, tag: `mixgrpo ${run}` });
  shown.onclick = () => window.focus();
}

/** The title of the tab; the host writes it, too, and has it back as soon as somebody looks. */
const title = {
  watch: null,
  words: "",
  former: "",

  call(words) {
    if (!this.watch) {
      this.watch = new MutationObserver(() => this.hold());
      this.watch.observe(document.head, { subtree: true, childList: true, characterData: true });
      for (const [target, name] of [[document, "visibilitychange"], [window, "focus"]]) {
        target.addEventListener(name, () => this.release());
      }
    }
    this.words = words;
    this.hold();
  },

  hold() {
    if (!this.words || document.title === this.words) return;
    this.former = document.title;
    document.title = this.words;
  },

  release() {
    if (document.hidden || !this.words) return;
    this.words = "";
    document.title = this.former;
  },
};
