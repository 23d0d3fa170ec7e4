// Making elements without ceremony.

/** An element: `make("button.big", {title: "x", onclick: f}, "text", child)`. */
export function make(name, properties = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  element.className = classes.map((word) => `mg-${word}`).join(" ");
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

/** An element of a drawing. */
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Write a text only where it changed: less work for the browser, and a selection stays. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A colour of the view's stylesheet, for what is drawn on a canvas. */
export function colour(element, name) {
  return getComputedStyle(element).getPropertyValue(`--mg-${name}`).trim() || "gray";
}
