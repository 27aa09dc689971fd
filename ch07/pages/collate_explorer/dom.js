"use strict";

/* Small helpers: elements, and the texts of the language that is chosen. */

// The element of that id.
function byId(id) {
  return document.getElementById(id);
}

// An element with attributes and children; strings become text, never markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== false && value !== null) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// A function that gives the text of a key, with {name} replaced by values.name.
function makeTexts(texts) {
  return (key, values = {}) =>
    (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

// An <option>.
function option(value, text) {
  return element("option", { value }, text);
}

// Options for a <select>, in place of those it has, with one of them chosen.
function fillSelect(select, options, chosen) {
  select.replaceChildren(...options);
  select.value = chosen;
}

// A loss in nats, to two places.
function lossText(loss) {
  return loss.toFixed(2);
}
