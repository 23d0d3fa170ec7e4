// The pictures: the group that was scored last, tile by tile, and what a run that is over left.

import { make, write } from "./dom.mjs";
import { brief, short, signed } from "./format.mjs";
import { Lightbox } from "./lightbox.mjs";
import { tile as arrange, tiling } from "./tiling.mjs";

const TABS = { group: "Current group", ends: "Before and after" };

export class Pictures {
  /** @param {(image: object, version: string) => string} address of a picture that an event speaks of */
  constructor(address) {
    this.address = address;
    this.tabs = Object.entries(TABS).map(([name, textContent]) => {
      const button = make("button.tab", { type: "button", textContent, onclick: () => this.#choose(name) });
      return { name, button };
    });
    this.caption = make("span.caption");
    this.grid = make("div.grid");
    this.element = make("section.pictures", {},
      make("div.row", {}, make("div.tabs", {}, ...this.tabs.map(({ button }) => button)), this.caption), this.grid);
    this.lightbox = new Lightbox();
    this.tab = "group";
  }

  show(state) {
    const { group, result, run } = state;
    if (result?.grid && state.live === false && this.run === run && this.wasLive) this.tab = "ends";
    Object.assign(this, { run, wasLive: state.live });
    this.kinds = { group, ends: ends(result) };
    if (this.tab !== "group" && !this.kinds[this.tab]) this.tab = "group";
    for (const { name, button } of this.tabs) button.style.display = name === "group" || this.kinds[name] ? "" : "none";
    this.#draw();
  }

  resize() {
    if (this.shown?.tile) this.#arrange(this.shown);
  }

  close() {
    this.lightbox.close();
  }

  #choose(name) {
    this.tab = name;
    this.#draw();
  }

  #draw() {
    for (const { name, button } of this.tabs) button.setAttribute("aria-selected", name === this.tab);
    const wanted = this.kinds[this.tab];
    if (!wanted) {
      this.shown = this.loading = null;
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
    this.grid.dataset.single = wanted.tile ? "" : "yes";
    write(this.caption, told(wanted));
    this.caption.title = this.caption.textContent;
    if (wanted.tile) {
      this.grid.replaceChildren(...wanted.tiles.map((tile, index) => {
        const element = scored(tile);
        element.onclick = () => this.lightbox.tiles(wanted, picture, index);
        Object.assign(element.style, background(wanted, picture, index));
        return element;
      }));
      this.#arrange(wanted);
    } else {
      Object.assign(picture, { className: "mg-shot", title: "Click to enlarge", alt: wanted.words });
      picture.onclick = () => this.lightbox.picture(picture.src, wanted.words);
      this.#whole(picture);
    }
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

  #arrange(wanted) {
    if (!this.grid.clientWidth || !this.grid.clientHeight) return;
    const found = tiling(wanted.tiles.length, wanted.tile.width / wanted.tile.height, this.grid);
    arrange(this.grid, found);
    this.grid.dataset.small = found.width < 96 ? "yes" : "";
    this.grid.dataset.tiny = found.width < 60 ? "yes" : "";
  }
}

function told({ prompt, iteration, words }) {
  return words ?? `“${prompt}” · iteration ${iteration + 1}`;
}

/** The picture of before and after that a run left, one object for each. */
function ends(result) {
  if (!result?.grid) return null;
  result.ends ??= { image: result.grid, iteration: result.iteration, words: "the same noise without and with the LoRA" };
  return result.ends;
}

/** A button with the score and the advantage of an image of a group. */
function scored(tile) {
  const [word] = Object.values(tile.scores);
  const scores = Object.entries(tile.scores).map(([name, value]) => `${name} ${value == null ? "no score" : short(value, 3)}`);
  const sign = signed(tile.advantage) === "0" ? "even" : tile.advantage > 0 ? "up" : "down";
  const element = make("button.tile", { type: "button", title: [...scores, `advantage ${signed(tile.advantage)}`].join("\n") },
    make("span.score", {}, brief(word)),
    make("span.advantage", {}, make("i", {}, { up: "▲", down: "▼", even: "=" }[sign]), make("em", {}, signed(tile.advantage))));
  element.dataset.sign = sign;
  if (tile.best) element.dataset.frame = "best";
  if (tile.worst) element.dataset.frame = "worst";
  return element;
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
