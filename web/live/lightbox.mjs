// A picture in full size over everything.

import { make } from "./dom.mjs";
import { short, signed } from "./format.mjs";

export class Lightbox {
  /** A tile of a group, cut out of its sheet; arrow keys go through the others. */
  tiles(group, sheet, index) {
    const show = (at) => {
      const { tile, columns } = group;
      const canvas = make("canvas", { width: tile.width, height: tile.height });
      const left = (at % columns) * (tile.width + 2 * tile.frame) + tile.frame;
      const top = Math.floor(at / columns) * (tile.height + 2 * tile.frame) + tile.frame;
      canvas.getContext("2d").drawImage(sheet, left, top, tile.width, tile.height, 0, 0, tile.width, tile.height);
      canvas.classList.toggle("mg-pixels", tile.width < 128);
      const { scores, advantage, best, worst } = group.tiles[at];
      const named = Object.entries(scores).map(([name, value]) => `${name} ${short(value, 3)}`);
      const place = best ? "best of the group" : worst ? "worst of the group" : "";
      this.#open(canvas, group.prompt, [...named, `advantage ${signed(advantage)}`, place].filter(Boolean).join("  ·  "));
      this.step = (by) => show((at + by + group.tiles.length) % group.tiles.length);
    };
    show(index);
  }

  picture(url, words) {
    this.#open(make("img", { src: url }), words, "");
    this.step = () => {};
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
