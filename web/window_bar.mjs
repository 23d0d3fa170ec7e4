// The window of a Window node as a bar with two handles. The node's integers are the truth: the bar draws them and,
// when dragged or moved by the arrow keys, sets them.

const HEIGHT = 70;
const MOST_CELLS = 120; // more steps than this are drawn as one strip

const STYLE = `
.mixgrpo-bar { box-sizing: border-box; width: 100%; height: 100%; min-height: ${HEIGHT}px; padding: 2px 8px; font: 11px sans-serif;
  color: var(--input-text, #ddd); user-select: none; touch-action: none; display: flex; flex-direction: column; gap: 3px; }
.mixgrpo-bar-words { display: flex; justify-content: space-between; opacity: 0.75; }
.mixgrpo-bar-track { position: relative; height: 22px; border-radius: 4px; overflow: hidden; background: var(--comfy-input-bg, #333); }
.mixgrpo-bar-track > * { position: absolute; top: 0; bottom: 0; box-sizing: border-box; }
.mixgrpo-bar-cell { border-right: 1px solid var(--border-color, #5556); }
.mixgrpo-bar-final { background: repeating-linear-gradient(45deg, #8886 0 2px, transparent 2px 5px); }
.mixgrpo-bar-reach { background: #ea580c33; }
.mixgrpo-bar-window { background: #ea580c; opacity: 0.85; }
.mixgrpo-bar-window.free { cursor: grab; }
.mixgrpo-bar-handle { background: #fdba74; cursor: ew-resize; outline-offset: -2px; }
.mixgrpo-bar.bad .mixgrpo-bar-window { background: #dc2626; }
.mixgrpo-bar-text { text-align: center; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
`;

/** Where a window is after `grip` ("start", "end" or "window") was brought `by` steps along; never on the last step. */
export function moved({ start, size, steps }, grip, by) {
  const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
  const end = start + size;
  if (grip === "start") {
    const first = clamp(start + by, 0, end - 1);
    return { start: first, size: end - first };
  }
  if (grip === "end") return { start, size: Math.max(1, clamp(end + by, start + 1, steps - 1) - start) };
  return { start: clamp(start + by, 0, Math.max(0, steps - 1 - size)), size };
}

/** What the bar says below itself, and whether the window can be as it is. */
export function described({ start, size, steps, fixed, furthest }) {
  const last = start + size - 1;
  if (size > steps - 1) return { ok: false, text: `does not fit ${steps} steps: size can be ${steps - 1} at most` };
  if (!fixed && start > 0) return { ok: false, text: "a window that moves begins at 0: set start to 0" };
  if (last > steps - 2) return { ok: false, text: `does not fit: start can be ${steps - 1 - size} at most` };
  const place = size === 1 ? `step ${start}` : `steps ${start} to ${last}`;
  if (fixed) return { ok: true, text: `${place} of ${steps}` };
  return { ok: true, text: `${place} of ${steps} first, at most ${furthest} to ${furthest + size - 1}` };
}

/** Put the bar on a Window node. */
export function addWindowBar(node) {
  addStyle();
  const root = element("div", "mixgrpo-bar");
  const words = element("div", "mixgrpo-bar-words", root);
  element("span", "", words).textContent = "structure";
  element("span", "", words).textContent = "→";
  element("span", "", words).textContent = "detail";
  const track = element("div", "mixgrpo-bar-track", root);
  const text = element("div", "mixgrpo-bar-text", root);

  const draw = () => {
    const values = read(node);
    const { ok, text: line } = described(values);
    root.classList.toggle("bad", !ok);
    text.textContent = line;
    drawTrack(track, values, (grip, origin, by) => write(node, moved(origin, grip, by)));
  };
  const widget = node.addDOMWidget("window_bar", "mixgrpo_window_bar", root, {
    serialize: false,
    hideOnZoom: false,
    hideInPanel: true, // it would be made as narrow as the panel
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
  });
  widget.serialize = false;
  followValues(node, draw);
  return widget;
}

const widgetNamed = (node, name) => node.widgets?.find((widget) => widget.name === name);

const isLinked = (node, name) => node.inputs?.some((input) => input.widget?.name === name && input.link != null);

function read(node) {
  const number = (name, otherwise) => Math.round(Number(widgetNamed(node, name)?.value ?? otherwise));
  const [start, size, steps] = [number("start", 0), number("size", 4), number("steps", 25)];
  const cap = number("strategy.last_start", -1);
  const room = Math.max(0, steps - 1 - size);
  return {
    start,
    size,
    steps,
    fixed: widgetNamed(node, "strategy")?.value === "fixed",
    furthest: cap < 0 ? room : Math.min(cap, room),
    locked: isLinked(node, "start") || isLinked(node, "size"),
  };
}

function write(node, values) {
  for (const [name, value] of Object.entries(values)) {
    const widget = widgetNamed(node, name);
    if (!widget || widget.value === value) continue;
    widget.value = value;
    widget.callback?.(value);
  }
  node.setDirtyCanvas?.(true, true);
}

/** Draw now, and whenever one of the node's values changes: by hand, by a loaded workflow, by an option's own inputs. */
function followValues(node, draw) {
  const followed = new WeakSet();
  const follow = () => {
    for (const widget of node.widgets ?? []) {
      if (followed.has(widget) || widget.name === "window_bar") continue;
      followed.add(widget);
      const before = widget.callback;
      widget.callback = function (...given) {
        const result = before?.apply(this, given);
        refresh();
        return result;
      };
    }
    draw();
  };
  const refresh = () => queueMicrotask(follow); // a strategy's inputs come and go after its callback
  for (const name of ["onConfigure", "onConnectionsChange"]) {
    const before = node[name];
    node[name] = function (...given) {
      const result = before?.apply(this, given);
      refresh();
      return result;
    };
  }
  follow();
}

function drawTrack(track, values, drag) {
  const { start, size, steps, fixed, furthest, locked } = values;
  const share = (step) => `${(100 * Math.max(0, Math.min(step, steps))) / steps}%`;
  const place = (name, from, to) => {
    const part = element("div", name);
    part.style.left = share(from);
    part.style.width = `calc(${share(to)} - ${share(from)})`;
    return part;
  };
  const parts = [];
  if (steps <= MOST_CELLS) for (let i = 0; i < steps; i++) parts.push(place("mixgrpo-bar-cell", i, i + 1));
  parts.push(place("mixgrpo-bar-final", steps - 1, steps));
  if (!fixed) parts.push(place("mixgrpo-bar-reach", 0, furthest + size));
  const block = place("mixgrpo-bar-window", start, start + size);
  parts.push(block);
  if (!locked) {
    const width = `min(9px, ${(30 * size) / steps}%)`; // a small window keeps a middle to be dragged by
    if (fixed) {
      block.classList.add("free");
      grip(block, "window", track, values, drag);
      parts.push(handle("start", `left: ${share(start)}; width: ${width}`, start, track, values, drag));
    }
    const left = `left: calc(${share(start + size)} - ${width})`;
    parts.push(handle("end", `${left}; width: ${width}`, start + size - 1, track, values, drag));
  }
  const focused = track.contains(document.activeElement) ? document.activeElement.dataset.grip : null;
  track.replaceChildren(...parts);
  track.querySelector(`[data-grip="${focused}"]`)?.focus();
}

function handle(name, style, step, track, values, drag) {
  const part = element("div", "mixgrpo-bar-handle");
  part.style.cssText = style;
  part.tabIndex = 0;
  part.role = "slider";
  part.ariaLabel = name === "start" ? "first step of the window" : "last step of the window";
  part.ariaValueMin = "0";
  part.ariaValueMax = String(values.steps - 2);
  part.ariaValueNow = String(step);
  part.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    drag(name, values, by);
  });
  grip(part, name, track, values, drag);
  return part;
}

/** Dragging: the track outlives the redraws that a drag makes, so it follows the pointer. */
function grip(part, name, track, origin, drag) {
  part.dataset.grip = name;
  part.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const box = track.getBoundingClientRect(); // on the screen: the canvas's zoom is in it
    const from = event.clientX;
    const move = (now) => drag(name, origin, Math.round(((now.clientX - from) / box.width) * origin.steps));
    const end = () => {
      for (const kind of ["pointerup", "pointercancel"]) track.removeEventListener(kind, end);
      track.removeEventListener("pointermove", move);
    };
    track.setPointerCapture(event.pointerId);
    track.addEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) track.addEventListener(kind, end);
  });
}

function element(kind, name, parent) {
  const made = document.createElement(kind);
  made.className = name;
  parent?.append(made);
  return made;
}

function addStyle() {
  if (document.getElementById("mixgrpo-bar-style")) return;
  const style = element("style", "", document.head);
  style.id = "mixgrpo-bar-style";
  style.textContent = STYLE;
}
