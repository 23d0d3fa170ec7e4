// What a taste believes: the images that it likes most and least, how much it knows, and the click that says it is wrong.

import { make, write } from "./dom.mjs";
import { percent } from "./format.mjs";
import { Lightbox } from "./lightbox.mjs";

const SIDES = { best: "It likes most", worst: "It likes least" };
const SAID = {
  none: { word: "Wrong", title: "That is wrong: a vote against what it believes of this image. It learns from it before the next iteration." },
  waits: { word: "✓ Noted", title: "It learns from this before the next iteration. Click again to take it back." },
  heard: { word: "✓ Learned", title: "It has learned from this." },
};

export class Taste {
  /**
   * @param {(image: object, version: string) => string} address of a picture
   * @param {(image: string, wrong: boolean) => Promise<string | null>} wrong says that it is wrong about an image, or
   *   takes that back, and gives what became of that
   */
  constructor(address, wrong) {
    Object.assign(this, { address, wrong, taste: null, shown: null });
    this.about = make("small");
    this.knows = make("p.knows");
    this.sides = Object.fromEntries(Object.keys(SIDES).map((side) => [side, make("div.believed")]));
    const columns = Object.entries(SIDES).map(([side, word]) => make("div.opinion", {}, make("b", {}, word), this.sides[side]));
    this.pair = make("div.pair", {}, ...columns);
    for (const left of ["pointerleave", "focusout"]) this.pair.addEventListener(left, () => setTimeout(() => this.#draw()));
    this.element = make("section.taste", {}, make("div.row", {}, make("h4", {}, "Taste"), this.about), this.knows, this.pair);
    this.lightbox = new Lightbox();
  }

  /** No run with a taste. */
  get absent() {
    return !this.taste;
  }

  show({ run, taste }) {
    if (run !== this.run) this.shown = null;
    if (taste === this.taste && run === this.run) return;
    Object.assign(this, { run, taste });
    if (!taste) return;
    write(this.about, about(taste));
    const knows = taste.sentences.map(sentence).join(" ");
    write(this.knows, knows);
    this.knows.title = knows;
    this.#draw();
  }

  close() {
    this.lightbox.close();
  }

  /** The images of the moment; somebody who is about to click keeps those that there are. */
  #draw() {
    const { taste, pair } = this;
    const looking = pair.matches(":hover") || pair.querySelector(":focus-visible");
    if (taste === this.shown || (this.shown?.best.length && looking)) return;
    this.shown = taste;
    pair.style.display = taste.best.length ? "" : "none";
    for (const [side, tiles] of Object.entries(this.sides)) tiles.replaceChildren(...taste[side].map((one) => this.#tile(one)));
  }

  #tile({ id, prompt, liked, picture, said }) {
    const sure = `liked: ${percent(liked)}`;
    const src = picture && this.address(picture, id);
    const image = make("img", { src: src ?? "", alt: prompt, draggable: false });
    image.onload = () => image.classList.toggle("mg-pixels", image.naturalWidth < 128);
    const enlarge = () => this.lightbox.picture(src, `${prompt}\n${sure}`);
    const click = make("button.wrong", { type: "button" });
    const tile = make("div.belief", {},
      make("button.shown", { type: "button", title: `“${prompt}”\n${sure}`, onclick: enlarge }, image),
      make("span", {}, percent(liked)), click);
    const mark = (now) => {
      const { word, title } = SAID[now ?? "none"];
      write(click, word);
      Object.assign(click, { title, disabled: now === "heard" });
      click.setAttribute("aria-pressed", String(Boolean(now)));
      click.setAttribute("aria-label", `${now ? word : "That is wrong"}: “${prompt}”, ${sure}`);
      click.onclick = () => this.wrong(id, now !== "waits").then(mark, () => {}); // the header says what went wrong
      tile.dataset.said = now ?? "";
    };
    mark(said);
    return tile;
  }
}

function about({ votes, refreshed, questions, waiting }) {
  const said = [`${votes} vote${votes === 1 ? "" : "s"}`];
  if (refreshed !== null) said.push(`learned anew before iteration ${refreshed + 1}`);
  said.push(waiting ? `${waiting} correction${waiting === 1 ? "" : "s"} noted` : `asked about ${questions} group${questions === 1 ? "" : "s"}`);
  return said.join(" · ");
}

function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1)}.`;
}
