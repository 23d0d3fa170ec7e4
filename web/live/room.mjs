// The height of a node that holds the view: it grows by what unfolds, and gives that back.

/**
 * Keep a node at least as large as its view needs. Room beyond that is the artist's and stays.
 * @param {LGraphNode} node whose `computeSize` counts the view
 * @param {LiveView} view
 */
export class Room {
  constructor(node, view) {
    Object.assign(this, { node, view, needed: view.least, before: null });
  }

  /** What is needed changed: sections were folded or unfolded, a vote began or ended. */
  fit() {
    const { node, view } = this;
    const height = this.before ?? node.size[1];
    this.before = view.voting ? height : null; // what a vote takes is borrowed
    if (view.voting) return this.#set(height);
    this.#set(height + view.least - this.needed);
    this.needed = view.least;
  }

  /** After the workflow was loaded: a size that another version saved may be too small. */
  restore() {
    this.needed = this.view.least;
    this.#set(this.node.size[1]);
  }

  #set(height) {
    const { node } = this;
    const [width, least] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(height, least)]);
    node.graph?.setDirtyCanvas(true, true);
  }
}
