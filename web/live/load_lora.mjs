// A node that loads a LoRA, put into the workflow beside the node that trained it.

const LOADER = "LoraLoaderModelOnly";
const GAP = 40;

/**
 * @param {LGraphNode} trainer, or the subgraph node that holds it
 * @param {string} file its name in the loader's list
 * @returns {LGraphNode} the loader, with the model that was trained where that comes by a wire
 */
export function addLoader(trainer, file) {
  const { graph } = trainer;
  const loader = globalThis.LiteGraph.createNode(LOADER);
  if (!loader) throw new Error("This ComfyUI has no node Load LoRA (Model).");
  graph.beforeChange?.();
  loader.pos = freePlace(graph, trainer, loader.size);
  graph.add(loader);
  const chosen = loader.widgets.find(({ name }) => name === "lora_name");
  const { values } = chosen.options;
  if (Array.isArray(values) && !values.includes(file)) chosen.options.values = [...values, file];
  chosen.value = file;
  chosen.callback?.(file);
  connectModel(graph, trainer, loader);
  graph.afterChange?.();
  graph.setDirtyCanvas(true, true);
  return loader;
}

/** What the trainer's model comes from, to the loader as well; in a subgraph that may be the subgraph's own input. */
function connectModel(graph, trainer, loader) {
  const input = trainer.inputs.find(({ type, link }) => type === "MODEL" && link != null);
  const link = input && (graph.getLink?.(input.link) ?? graph.links[input.link]);
  if (!link) return;
  const origin = graph.getNodeById(link.origin_id);
  if (origin) origin.connect(link.origin_slot, loader, 0);
  else graph.inputNode?.slots[link.origin_slot]?.connect(loader.inputs[0], loader);
}

/** To the right of the trainer or below it, the nearest place where no other node is. */
function freePlace(graph, trainer, [width, height]) {
  const [x, y] = trainer.pos;
  const [right, bottom] = [x + trainer.size[0] + GAP, y + trainer.size[1] + 2 * GAP];
  const taken = graph.nodes.map(({ pos, size }) => ({ x: pos[0], y: pos[1] - GAP, width: size[0], height: size[1] + 2 * GAP }));
  const places = [[right, y], [x, bottom]].map(([left, top]) => {
    const hit = () => taken.find((box) =>
      left < box.x + box.width && box.x < left + width && top < box.y + box.height && box.y < top + height);
    for (let box = hit(); box; box = hit()) top = box.y + box.height + 1;
    return [left, top];
  });
  return places[1][1] - bottom < places[0][1] - y ? places[1] : places[0];
}
