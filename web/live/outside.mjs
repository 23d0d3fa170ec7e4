// The view on the outside of a subgraph's node, of the trainer in it.

import { NodeLink, UNFOLDED_AS } from "./link.mjs";

const LOOK_MS = 500;

/** Keeps the nodes of subgraphs that hold a trainer, in the graph that is open, with a view of it. */
export class Outsides {
  /**
   * @param {{isTrainer(node: LGraphNode): boolean, show(node: LGraphNode, link: NodeLink): void,
   *   nodeAt(root: LGraph, place: string): LGraphNode | undefined, inVue(node: LGraphNode): boolean}} canvas
   *   `show` gives a node room for the view, `inVue` tells that it is drawn as HTML just now
   * @param {object} outside of `NodeLink`
   */
  constructor(canvas, outside) {
    Object.assign(this, { canvas, outside, links: new Map() });
    setInterval(() => this.links.forEach((link, node) => this.#mount(link, node)), LOOK_MS);
  }

  /** Nodes came or went. */
  look(root) {
    if (!root) return;
    const found = new Map(holders(root, this.canvas.isTrainer));
    for (const [node, link] of this.links) if (found.get(node) !== link.inner) this.#close(node, link);
    for (const [node, inner] of found) if (!this.links.has(node)) this.#open(node, inner);
  }

  #open(node, inner) {
    const here = (place) => {
      if (!place.endsWith(`:${inner}`)) return false;
      const root = node.graph?.rootGraph ?? node.graph;
      return this.canvas.nodeAt(root, place.slice(0, -inner.length - 1)) === node;
    };
    const link = new NodeLink(node, here, { ...this.outside, fit: () => link.room?.fit() });
    link.inner = inner;
    this.links.set(node, link);
    node.properties[UNFOLDED_AS] ??= [];
    this.canvas.show(node, link);
    link.restore();
    link.room.restore();
  }

  #close(node, link) {
    this.links.delete(node);
    link.hide?.();
    link.close();
    link.view.element.closest(".mixgrpo-outside")?.remove();
  }

  /** The host draws no DOM widgets of its own on a subgraph's node in Vue. */
  #mount(link, node) {
    const { element } = link.view;
    if (!this.canvas.inVue(node)) return;
    const body = document.querySelector(`[data-testid="node-body-${node.id}"]`);
    if (!body || body.contains(element)) return;
    const place = document.createElement("div");
    place.className = "mixgrpo-outside";
    for (const name of ["pointerdown", "pointermove", "pointerup"]) place.addEventListener(name, (event) => event.stopPropagation());
    place.append(element);
    body.append(place);
  }
}

/** [node, place of the first trainer in it] of all subgraphs' nodes, from the outside in. */
function* holders(graph, isTrainer) {
  for (const node of graph.nodes ?? []) {
    if (!node.subgraph) continue;
    const inner = trainerIn(node.subgraph, isTrainer);
    if (inner) yield [node, inner];
    yield* holders(node.subgraph, isTrainer);
  }
}

function trainerIn(graph, isTrainer) {
  for (const node of graph.nodes) {
    if (isTrainer(node)) return String(node.id);
    const inner = node.subgraph && trainerIn(node.subgraph, isTrainer);
    if (inner) return `${node.id}:${inner}`;
  }
  return null;
}
