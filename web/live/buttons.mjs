// What can be asked of a live run.

import { make, write } from "./dom.mjs";

const BUTTONS = [
  ["sample", "Sample now", "Add pictures and the LoRA to the gallery after this iteration."],
  ["save", "Save now", "Save a checkpoint and the LoRA after this iteration."],
  ["pause", "Pause", "Save and stop after this iteration: frees the queue and the memory. Run again to go on."],
  ["stop", "Stop and keep", "End the training after this iteration and give the LoRA on."],
];

export class Buttons {
  constructor(ask) {
    this.buttons = BUTTONS.map(([command, , title]) => {
      const button = make(`button.button.${command}`, { type: "button", title, onclick: () => ask(command) });
      button.dataset.command = command;
      return button;
    });
    this.element = make("div.buttons", {}, ...this.buttons);
  }

  show({ live, pending, result }) {
    this.element.style.display = !live && result ? "none" : ""; // what it left stands there
    BUTTONS.forEach(([command, label], index) => {
      const waits = pending.includes(command);
      const button = this.buttons[index];
      write(button, waits ? `✓ ${label}` : label);
      button.disabled = !live || waits;
      button.dataset.waits = waits ? "yes" : "";
    });
  }
}
