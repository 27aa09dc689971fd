"use strict";

/* A list of which one item is selected: by a click, or with the arrow keys. */

// How many items further an arrow key leads; `width` is the number of items in a row, if any.
function keySteps(key, width) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: width, ArrowUp: -width };
  return steps[key] ?? 0;
}

/* Makes an element with role="listbox" and its children with role="option" work.

   `onSelect` gets the number of an item. Only the selected item is in the order of the Tab key.
   `width` says how far the keys up and down lead. Returns `mark`, which shows an item as selected. */
function makeListbox(list, onSelect, width = () => 1) {
  const items = () => Array.from(list.querySelectorAll("[role=option]"));

  function mark(number) {
    items().forEach((item, i) => {
      item.setAttribute("aria-selected", String(i === number));
      item.tabIndex = i === number || (number === null && i === 0) ? 0 : -1;
    });
  }

  function choose(number) {
    mark(number);
    items()[number].focus();
    onSelect(number);
  }

  list.addEventListener("click", (event) => {
    const item = event.target.closest("[role=option]");
    if (item !== null) {
      choose(items().indexOf(item));
    }
  });
  list.addEventListener("keydown", (event) => {
    const number = items().indexOf(event.target.closest("[role=option]"));
    const last = items().length - 1;
    if (number < 0 || event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const targets = { Home: 0, End: last, Enter: number, " ": number };
    const steps = keySteps(event.key, width());
    if (!(event.key in targets) && steps === 0) {
      return;
    }
    event.preventDefault();
    const target = targets[event.key] ?? number + steps;
    if (target >= 0 && target <= last) {
      choose(target);
    }
  });
  return mark;
}
