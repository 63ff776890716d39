// Elements from plain data. Whatever is foreign becomes a text node: there is no way here to write markup.

// `on...` is a listener, `class` and other names are attributes, true is an attribute without a value; null is left out.
export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  fill(made, ...children);
  return made;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return element;
}

export function button(label, run, attributes = {}) {
  return h("button", { type: "button", onclick: run, ...attributes }, label);
}
