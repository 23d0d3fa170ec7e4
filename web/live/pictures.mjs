// The pictures: the group that was scored last, tile by tile, and the sample that was asked for.

import { make, write } from "./dom.mjs";
import { brief, short, signed } from "./format.mjs";
import { Lightbox } from "./lightbox.mjs";
import { tile as arrange, tiling } from "./tiling.mjs";

export class Pictures {
  /** @param {(image: object, version: string) => string} address of a picture that an event speaks of */
  constructor(address) {
    this.address = address;
    this.tabs = ["group", "sample"].map((name) => make("button.tab", {
      type: "button",
      textContent: { group: "Current group", sample: "Sample" }[name],
      onclick: () => this.#choose(name),
    }));
    this.caption = make("span.caption");
    this.grid = make("div.grid");
    this.element = make("section.pictures", {},
      make("div.row", {}, make("div.tabs", {}, ...this.tabs), this.caption), this.grid);
    this.lightbox = new Lightbox();
    this.tab = "group";
  }

  show(state) {
    if (state.newSample && state.newSample !== this.newSample) this.tab = "sample";
    this.newSample = state.newSample;
    this.sample = state.sample;
    this.group = state.group;
    this.run = state.run;
    this.tabs[1].style.display = state.sample ? "" : "none";
    if (!state.sample) this.tab = "group";
    this.tabs.forEach((tab, i) => tab.setAttribute("aria-selected", ["group", "sample"][i] === this.tab));
    this.#draw();
  }

  resize() {
    if (this.shown?.tiles) this.#arrange(this.shown);
  }

  close() {
    this.lightbox.close();
  }

  #choose(name) {
    this.tab = name;
    this.tabs.forEach((tab, i) => tab.setAttribute("aria-selected", ["group", "sample"][i] === name));
    this.#draw();
  }

  #draw() {
    const wanted = this.tab === "sample" ? this.sample : this.group;
    if (!wanted) {
      this.shown = null;
      write(this.caption, "");
      return this.#say("The images of each prompt appear here with their scores, best and worst framed.");
    }
    if (wanted === this.shown || wanted === this.loading) return;
    if (!wanted.image) return;
    this.loading = wanted;
    const picture = new Image();
    picture.onload = () => this.loading === wanted && this.#place(wanted, picture);
    picture.onerror = () => this.loading === wanted && this.#missing(wanted);
    picture.src = this.address(wanted.image, `${this.run}-${wanted.iteration}-${serial(wanted)}`);
  }

  #place(wanted, picture) {
    this.loading = null;
    this.shown = wanted;
    this.grid.dataset.empty = "";
    this.grid.dataset.single = wanted.tiles ? "" : "yes";
    if (wanted.tiles) {
      write(this.caption, `“${wanted.prompt}” · iteration ${wanted.iteration + 1}`);
      this.grid.replaceChildren(...wanted.tiles.map((tile, index) => this.#tile(wanted, picture, tile, index)));
      this.#arrange(wanted);
    } else {
      write(this.caption, `after iteration ${wanted.iteration}`);
      picture.className = "mg-shot";
      picture.title = "Click to enlarge";
      picture.onclick = () => this.lightbox.picture(picture.src, wanted.captions.join("\n"));
      this.#whole(picture);
    }
    this.caption.title = this.caption.textContent;
  }

  #missing(wanted) {
    this.loading = null;
    this.shown = wanted;
    this.#say("The pictures of this iteration are gone; the next ones will show.");
  }

  #say(words) {
    this.grid.dataset.empty = "yes";
    this.#whole(make("div.empty", {}, words));
  }

  /** One thing over the width of all tiles. */
  #whole(element) {
    Object.assign(this.grid.style, { gridTemplateColumns: "", gridAutoRows: "" });
    this.grid.replaceChildren(element);
  }

  #tile(group, picture, tile, index) {
    const [word] = Object.values(tile.scores);
    const scores = Object.entries(tile.scores).map(([name, value]) => `${name} ${value == null ? "no score" : short(value, 3)}`);
    const sign = signed(tile.advantage) === "0" ? "even" : tile.advantage > 0 ? "up" : "down";
    const words = [...scores, `advantage ${signed(tile.advantage)}`];
    const element = make("button.tile", {
      type: "button",
      title: words.join("\n"),
      onclick: () => this.lightbox.tiles(group, picture, index),
    },
    make("span.score", {}, brief(word)),
    make("span.advantage", {}, make("i", {}, { up: "▲", down: "▼", even: "=" }[sign]), make("em", {}, signed(tile.advantage))));
    element.dataset.sign = sign;
    if (tile.best) element.dataset.frame = "best";
    if (tile.worst) element.dataset.frame = "worst";
    Object.assign(element.style, background(group, picture, index));
    return element;
  }

  #arrange({ tiles, tile }) {
    if (!this.grid.clientWidth || !this.grid.clientHeight) return;
    const found = tiling(tiles.length, tile.width / tile.height, this.grid);
    arrange(this.grid, found);
    this.grid.dataset.small = found.width < 96 ? "yes" : "";
    this.grid.dataset.tiny = found.width < 60 ? "yes" : "";
  }
}

/** The style that shows one tile of the sheet and nothing of its frame. */
function background({ columns, tile, tiles }, picture, index) {
  const rows = Math.ceil(tiles.length / columns);
  const step = { x: tile.width + 2 * tile.frame, y: tile.height + 2 * tile.frame };
  const whole = { x: columns * step.x, y: rows * step.y };
  const at = { x: (index % columns) * step.x + tile.frame, y: Math.floor(index / columns) * step.y + tile.frame };
  const share = (place, all, part) => (all === part ? 0 : (100 * place) / (all - part));
  return {
    backgroundImage: `url("${picture.src}")`,
    backgroundSize: `${(100 * whole.x) / tile.width}% ${(100 * whole.y) / tile.height}%`,
    backgroundPosition: `${share(at.x, whole.x, tile.width)}% ${share(at.y, whole.y, tile.height)}%`,
    imageRendering: tile.width < 128 ? "pixelated" : "auto",
  };
}

const serials = new WeakMap();
let counted = 0;

/** A number of its own for every picture that was announced: their file has one name. */
function serial(data) {
  if (!serials.has(data)) serials.set(data, `${Date.now()}-${counted++}`);
  return serials.get(data);
}
