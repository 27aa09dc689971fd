"use strict";

/* The few lines that every page's scripts need to read and build its elements. */

function byId(id) {
  return document.getElementById(id);
}

// A new element with a class and a text.
function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className !== "") {
    made.className = className;
  }
  made.textContent = text;
  return made;
}

// A number with its noun: "1 token", "2 tokens".
function counted(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}
