// The gallery: how the same prompts look after two iterations, side by side, and which LoRA is the run's.

import { make, write } from "./dom.mjs";
import { bytes } from "./format.mjs";
import { Lightbox } from "./lightbox.mjs";
import { tile as arrange, tiling } from "./tiling.mjs";

const WORDS = ["on the left", "on the right"];

export class Gallery {
  /**
   * @param {(image: object, version: string) => string} address of a picture
   * @param {(iteration: number | null) => void} choose makes the LoRA of an iteration the run's; null the last one
   */
  constructor(address, choose) {
    this.lightbox = new Lightbox();
    this.sides = WORDS.map((words, place) =>
      new Side(words, address, choose, () => this.#moved(place), (at) => this.#enlarge(at)));
    this.size = make("small");
    this.last = make("button.button.last", { type: "button", onclick: () => choose(null) }, "Use the last one");
    this.last.title = "Give out the LoRA of the last iteration again. The one that was kept stays in the gallery.";
    this.element = make("section.gallery", {},
      make("div.row", {}, make("h4", {}, "Gallery"), this.size, this.last),
      make("div.pair", {}, ...this.sides.map((side) => side.element)));
    this.entries = [];
  }

  /** Nothing to show yet. */
  get absent() {
    return !this.entries.length;
  }

  show({ run, gallery }) {
    if (run !== this.run) for (const side of this.sides) side.at = null;
    this.run = run;
    if (gallery === this.shown) return;
    this.shown = gallery;
    this.entries = gallery?.entries ?? [];
    this.kept = gallery?.kept ?? null;
    const asked = this.entries.find((entry) => entry.asked && entry.iteration === gallery.new);
    if (asked) this.sides[1].at = asked.iteration; // and stays, until it has been looked at
    this.#draw();
  }

  resize() {
    for (const side of this.sides) side.resize();
  }

  close() {
    this.lightbox.close();
  }

  /** At the end of its slider the right side shows whatever comes next. */
  #moved(place) {
    const [, right] = this.sides;
    if (place === 1 && right.at === this.entries[this.entries.length - 1].iteration) right.at = null;
    this.#draw();
  }

  #draw() {
    if (this.absent) return;
    const [left, right] = this.sides;
    left.show(this.entries, left.at ?? this.entries[0].iteration, this.kept);
    right.show(this.entries, right.at ?? this.entries[this.entries.length - 1].iteration, this.kept);
    write(this.size, `${this.entries.length} LoRAs · ${this.shown.bytes < 2 ** 20 ? "under 1 MB" : bytes(this.shown.bytes)}`);
    this.size.title = "Every entry keeps the LoRA that made it, in the folder of the run.";
    this.last.style.display = this.kept === null ? "none" : "";
  }

  /** Prompt number `index` of both sides; arrow keys go through the prompts. */
  #enlarge(index) {
    const [left, right] = this.sides;
    const count = Math.min(left.entry.pictures.length, right.entry.pictures.length);
    const show = (at) => {
      this.lightbox.pair(left.url(at), right.url(at), left.entry.prompts[at],
        `iteration ${left.entry.iteration}  ·  iteration ${right.entry.iteration}`);
      this.lightbox.step = (by) => show((at + by + count) % count);
    };
    show(index);
  }
}

/** The pictures of one iteration, a slider that chooses it, and the button that keeps its LoRA. */
class Side {
  constructor(words, address, choose, moved, enlarge) {
    Object.assign(this, { address, enlarge, at: null, shape: 1 });
    this.shots = make("div.shots");
    this.slider = make("input", {
      type: "range", min: 0, step: 1,
      oninput: () => {
        this.at = this.entries[Number(this.slider.value)].iteration;
        moved();
      },
    });
    this.slider.setAttribute("aria-label", `Iteration ${words}`);
    for (const kind of ["pointerdown", "mousedown", "keydown", "wheel"]) {
      this.slider.addEventListener(kind, (event) => event.stopPropagation()); // the canvas would move its node
    }
    this.label = make("b");
    this.keep = make("button.button.keep", { type: "button", onclick: () => choose(this.entry.iteration) });
    this.element = make("div.side", {}, make("div.row", {}, this.label, this.keep), this.slider, this.shots);
  }

  show(entries, iteration, kept) {
    this.entries = entries;
    const found = entries.findLastIndex((entry) => entry.iteration <= iteration);
    const place = Math.max(found, 0);
    this.entry = entries[place];
    this.slider.max = entries.length - 1;
    this.slider.value = place;
    this.slider.disabled = entries.length < 2;
    this.slider.setAttribute("aria-valuetext", `iteration ${this.entry.iteration}`);
    write(this.label, `${this.entry.asked ? "asked for at" : "iteration"} ${this.entry.iteration}`);
    const isKept = this.entry.iteration === kept;
    write(this.keep, isKept ? "✓ Kept" : "Keep this one");
    this.keep.disabled = isKept;
    this.keep.dataset.kept = isKept ? "yes" : "";
    this.keep.title = isKept
      ? "The LoRA of this iteration is the run's."
      : "Make the LoRA of this iteration the run's: run again to give it out. The training still goes on from its last.";
    this.#draw();
  }

  url(index) {
    return this.address(this.entry.pictures[index], `${this.entry.iteration}-${this.entry.made}`);
  }

  #draw() {
    const urls = this.entry.pictures.map((_, index) => this.url(index));
    if (this.drawn === urls.join()) return;
    this.drawn = urls.join();
    this.shots.replaceChildren(...urls.map((src, index) => {
      const prompt = this.entry.prompts[index];
      const image = make("img", { src, alt: prompt, draggable: false });
      image.onload = () => {
        image.classList.toggle("mg-pixels", image.naturalWidth < 128);
        this.shape = image.naturalWidth / image.naturalHeight;
        this.resize();
      };
      return make("button.shown", { type: "button", title: prompt, onclick: () => this.enlarge(index) }, image);
    }));
    this.resize();
  }

  resize() {
    const { clientWidth, clientHeight } = this.shots;
    if (clientWidth && clientHeight) arrange(this.shots, tiling(this.entry.pictures.length, this.shape, this.shots, 4));
  }
}
