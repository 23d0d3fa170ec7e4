// A picture in full size over everything.

import { make } from "./dom.mjs";
import { short, signed } from "./format.mjs";

export class Lightbox {
  /** A tile of a group or of a sample, cut out of its sheet; arrow keys go through the others. */
  tiles(shown, sheet, index) {
    const { tile, columns, tiles, captions } = shown;
    const show = (at) => {
      const canvas = make("canvas", { width: tile.width, height: tile.height });
      const left = (at % columns) * (tile.width + 2 * tile.frame) + tile.frame;
      const top = Math.floor(at / columns) * (tile.height + 2 * tile.frame + (tile.foot ?? 0)) + tile.frame;
      canvas.getContext("2d").drawImage(sheet, left, top, tile.width, tile.height, 0, 0, tile.width, tile.height);
      canvas.classList.toggle("mg-pixels", tile.width < 128);
      this.#open(canvas, captions?.[at] ?? shown.prompt, tiles ? words(tiles[at]) : "");
      const count = (tiles ?? captions).length;
      this.step = (by) => show((at + by + count) % count);
    };
    show(index);
  }

  picture(url, words) {
    this.#open(make("img", { src: url }), words, "");
    this.step = () => {};
  }

  /** Two pictures side by side. */
  pair(left, right, title, words) {
    const images = [left, right].map((src) => make("img", { src }));
    for (const image of images) image.onload = () => image.classList.toggle("mg-pixels", image.naturalWidth < 128);
    this.#open(make("div.two", {}, ...images), title, words);
  }

  close() {
    this.element?.remove();
    this.element = null;
    if (this.keys) document.removeEventListener("keydown", this.keys, true);
    this.keys = null;
  }

  #open(picture, title, words) {
    this.close();
    this.element = make("div.lightbox", { onclick: () => this.close() },
      make("figure", {}, picture, make("figcaption", {}, make("b", {}, title), make("span", {}, words))));
    this.keys = (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by && event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      if (by) this.step(by);
      else this.close();
    };
    document.addEventListener("keydown", this.keys, true);
    document.body.append(this.element);
  }
}

function words({ scores, advantage, best, worst }) {
  const named = Object.entries(scores).map(([name, value]) => `${name} ${short(value, 3)}`);
  const place = best ? "best of the group" : worst ? "worst of the group" : "";
  return [...named, `advantage ${signed(advantage)}`, place].filter(Boolean).join("  ·  ");
}
