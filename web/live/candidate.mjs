// One image of a ballot: thumbs, or a place in the ranking.

import { draw, make, write } from "./dom.mjs";

const THUMB = "M2 9h3.2v9H2zM6.6 9l3.6-7c1.5 0 2.3 1.2 2 2.6L11.5 8h5c1.3 0 2.1 1 1.8 2.2l-1.5 6.2c-.2 1-1 1.6-2 1.6H6.6z";

export class Candidate {
  /**
   * @param {number} index from 0
   * @param {string} url of its picture
   * @param {{way: string, vote(value: number): void, rank(tie: boolean): void, enlarge(): void, loaded(image: HTMLImageElement): void}} does
   */
  constructor(index, url, { way, vote, rank, enlarge, loaded }) {
    this.name = `Image ${index + 1}`;
    this.picture = make("img", { src: url, alt: "", draggable: false });
    this.picture.onload = () => {
      this.picture.style.imageRendering = this.picture.naturalWidth < 128 ? "pixelated" : "auto";
      loaded(this.picture);
    };
    this.mark = make("b.place");
    const zoom = button("zoom", `${this.name}: enlarge`, enlarge, "⤢");
    this.element = make("div.candidate", { tabIndex: way === "thumbs" ? 0 : -1 }, this.picture);
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", this.name);
    if (way === "thumbs") {
      this.up = button("up", `${this.name}: thumb up`, () => vote(1), thumb());
      this.down = button("down", `${this.name}: thumb down`, () => vote(-1), thumb());
      this.element.append(make("div.thumbs", {}, this.down, this.up), zoom);
    } else {
      this.pick = button("pick", "", (event) => rank(event.shiftKey), "");
      this.element.append(this.pick, this.mark, zoom);
    }
  }

  focus() {
    (this.pick ?? this.element).focus();
  }

  /** Draw a vote (undefined: none) on it. */
  show(vote, last) {
    if (this.pick) {
      const words = vote ? `place ${vote}` : "not ranked";
      this.pick.setAttribute("aria-label", `${this.name}: ${words}`);
      this.pick.setAttribute("aria-pressed", String(Boolean(vote)));
      this.pick.title = vote ? "Click to take it out of the ranking" : "Click for the next place, Shift+click for a tie";
      write(this.mark, vote ? String(vote) : "");
      this.element.dataset.vote = !vote ? "none" : vote === 1 ? "up" : last && vote === last ? "last" : "placed";
      return;
    }
    this.up.setAttribute("aria-pressed", String(vote === 1));
    this.down.setAttribute("aria-pressed", String(vote === -1));
    this.element.dataset.vote = { 1: "up", [-1]: "down" }[vote] ?? "none";
  }
}

function button(name, label, onclick, child) {
  const made = make(`button.${name}`, { type: "button", title: label, onclick }, child);
  if (label) made.setAttribute("aria-label", label);
  return made;
}

function thumb() {
  return draw("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, draw("path", { d: THUMB }));
}
