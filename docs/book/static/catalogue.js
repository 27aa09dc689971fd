"use strict";

// The museum's filter: hides each section (one mistake) that lacks one of the words typed.

function matches(text, words) {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}

function filterCatalogue(field, output) {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const exhibits = [...document.querySelectorAll("section section section")];
  const exercises = [...document.querySelectorAll("section section")].filter((section) =>
    section.querySelector("section"),
  );
  for (const exhibit of exhibits) {
    exhibit.hidden = !matches(exhibit.textContent, words);
  }
  for (const exercise of exercises) {
    exercise.hidden = !exercise.querySelector("section:not([hidden])");
  }
  const shown = exhibits.filter((exhibit) => !exhibit.hidden).length;
  output.textContent = `${shown} of ${exhibits.length}`;
}

function prepareCatalogue() {
  const field = document.getElementById("catalogue-words");
  if (!field) {
    return;
  }
  const output = document.getElementById("catalogue-count");
  field.form.hidden = false; // without this script it would do nothing
  field.form.addEventListener("submit", (event) => event.preventDefault());
  field.addEventListener("input", () => filterCatalogue(field, output));
  filterCatalogue(field, output);
}

prepareCatalogue();
