"use strict";

/* The batch as a grid for the eye and the keyboard, and as a table that says the same.

   Each position is one cell: input above target above loss. Every cell's name is its story, a
   sentence with all that there is to know about it. */

const COLUMNS_SHOWN = 128;
const ROLE_LETTERS = {
  token: "",
  prompt: "p",
  template: "t",
  instruction: "i",
  input: "n",
  answer: "a",
  end: "e",
  padding: "-",
};

// What a target says in a story: its piece and id, or that it is not counted.
function targetPhrase(hasTarget, counted, piece, id, text) {
  if (!hasTarget) {
    return text("story.noTarget");
  }
  return counted ? text("story.target", { piece, id }) : text("story.ignored", { id });
}

// What would be right in a cell that differs: of input and target, what is not as it should be.
function rightPhrase(cell, text) {
  const { rightInput, rightInputPiece, rightTarget, rightCounted, rightTargetPiece } = cell;
  const phrases = [];
  if (cell.input !== rightInput) {
    const values = { piece: rightInputPiece, id: rightInput };
    phrases.push(rightInput === null ? text("story.noInput") : text("story.rightInput", values));
  }
  if (cell.target !== rightTarget) {
    const hasTarget = rightTarget !== null;
    phrases.push(targetPhrase(hasTarget, rightCounted, rightTargetPiece, rightTarget, text));
  }
  return phrases.join(text("comma"));
}

// All about one position, in a sentence or two.
function cellStory(cell, text) {
  const { row, column } = cell;
  const input =
    cell.input === null
      ? text("story.noInput")
      : text("story.input", {
          piece: cell.inputPiece,
          id: cell.input,
          role: text(`role.${cell.inputRole}`),
        });
  const loss = cell.loss === null ? "" : text("story.loss", { loss: lossText(cell.loss) });
  const target = targetPhrase(
    cell.target !== null,
    cell.counted,
    cell.targetPiece,
    cell.target,
    text,
  );
  const story = text("story", { row, column, input, target: target + loss });
  return cell.differs ? story + text("story.right", { what: rightPhrase(cell, text) }) : story;
}

// A box with a piece, its id and the letter of its role.
function tokenBox(kind, role, piece, id) {
  return element(
    "span",
    { class: `box ${kind} role-${role}` },
    element("span", { class: "letter" }, ROLE_LETTERS[role]),
    element("span", { class: piece.length > 7 ? "piece long" : "piece" }, piece),
    element("span", { class: "id" }, piece === String(id) ? "" : String(id)),
  );
}

// The box of an input, of a target, or of nothing.
function inputBox(cell) {
  if (cell.input === null) {
    return element("span", { class: "box nothing" });
  }
  return tokenBox("input", cell.inputRole, cell.inputPiece, cell.input);
}

function targetBox(cell) {
  if (cell.target === null) {
    return element("span", { class: "box nothing" });
  }
  if (!cell.counted) {
    return element(
      "span",
      { class: "box target ignored" },
      element("span", { class: "piece" }, NOT_COUNTED),
      element("span", { class: "id" }, String(cell.target)),
    );
  }
  return tokenBox("target counted", cell.targetRole, cell.targetPiece, cell.target);
}

// The loss of a cell: a number in a box that is filled as high as the loss.
function lossBox(cell, highest) {
  if (cell.loss === null) {
    return element("span", { class: "loss none" });
  }
  const box = element("span", { class: "loss" }, lossText(cell.loss));
  box.style.setProperty("--share", String(Math.min(cell.loss / highest, 1)));
  return box;
}

// How a cell looks: marked where input or target differ from what is right.
function cellClass(cell) {
  const marks = [
    "cell",
    cell.differs ? "differs" : "",
    cell.input === cell.rightInput ? "" : "input-differs",
    cell.target === cell.rightTarget ? "" : "target-differs",
  ];
  return marks.filter(Boolean).join(" ");
}

// One position as a cell of the grid.
function gridCell(cell, next, context) {
  const made = element("div", {
    role: "gridcell",
    class: cellClass(cell),
    tabindex: "-1",
    "data-row": cell.row,
    "data-column": cell.column,
    "aria-label": cellStory(cell, context.text),
  });
  made.append(inputBox(cell));
  if (cell.hasTargets) {
    const isShift = cell.counted && next !== undefined && next.input === cell.target;
    made.append(element("span", { class: isShift ? "shift drawn" : "shift" }), targetBox(cell));
  }
  if (context.hasLoss) {
    made.append(lossBox(cell, context.highest));
  }
  return made;
}

// The head of a row: its number, and what its lines are.
function rowHead(number, hasTargets, context) {
  const { text } = context;
  const lines = ["input", ...(hasTargets ? ["target"] : []), ...(context.hasLoss ? ["loss"] : [])];
  return element(
    "div",
    { role: "rowheader", class: "row-head" },
    element("strong", {}, text("row", { row: number })),
    ...lines.map((line) => element("span", { class: `line of-${line}` }, text(`line.${line}`))),
  );
}

// The whole grid.
function makeGrid(view, context) {
  const rows = view.cells.map((cells, number) => {
    const shown = cells.slice(0, COLUMNS_SHOWN);
    const hasTargets = view.shown.targets !== null;
    const boxes = shown.map((cell, i) => gridCell(cell, shown[i + 1], context));
    return element("div", { role: "row", class: "grid-row" }, rowHead(number, hasTargets, context), ...boxes);
  });
  return element("div", { role: "grid", class: "grid", "aria-label": context.text("grid") }, ...rows);
}

// Where an arrow key leads from a cell, within a grid of so many rows and columns; null: nowhere.
function movedTo(key, { row, column }, rows, columns) {
  const moves = {
    ArrowLeft: { row, column: column - 1 },
    ArrowRight: { row, column: column + 1 },
    ArrowUp: { row: row - 1, column },
    ArrowDown: { row: row + 1, column },
    Home: { row, column: 0 },
    End: { row, column: columns - 1 },
  };
  const place = moves[key];
  const isInside = (value, n) => value >= 0 && value < n;
  const fits = place && isInside(place.row, rows) && isInside(place.column, columns);
  return fits ? place : null;
}

// The heads of the table's columns.
function tableHead(view, text) {
  const keys = ["row", "column", "input", "inputId", "role", "target", "targetId", "counted", "loss"];
  if (view.differences > 0) {
    keys.push("right");
  }
  const heads = keys.map((key) => element("th", { scope: "col" }, text(`table.${key}`)));
  return element("thead", {}, element("tr", {}, ...heads));
}

// A position as a row of the table.
function tableRow(cell, view, text) {
  const values = [
    cell.column,
    cell.inputPiece,
    cell.input ?? "",
    cell.inputRole === "" ? "" : text(`role.${cell.inputRole}`),
    cell.target !== null && !cell.counted ? NOT_COUNTED : cell.targetPiece,
    cell.target ?? "",
    cell.counted ? text("yes") : text("no"),
    cell.loss === null ? "" : lossText(cell.loss),
  ];
  if (view.differences > 0) {
    values.push(rightPhrase(cell, text));
  }
  return element(
    "tr",
    { class: cell.differs ? "differs" : "" },
    element("th", { scope: "row" }, String(cell.row)),
    ...values.map((value) => element("td", {}, String(value))),
  );
}

// The table that says what the grid shows.
function makeTable(view, text) {
  const cells = view.cells.flatMap((row) => row.slice(0, COLUMNS_SHOWN));
  return element(
    "table",
    {},
    element("caption", { class: "spoken" }, text("table")),
    tableHead(view, text),
    element("tbody", {}, ...cells.map((cell) => tableRow(cell, view, text))),
  );
}

// What the colours and letters mean, of the roles that occur.
function makeLegend(view, context) {
  const { text } = context;
  const cells = view.cells.flat();
  const used = new Set(cells.flatMap((cell) => [cell.inputRole, cell.targetRole]));
  const items = Object.keys(ROLE_LETTERS)
    .filter((role) => used.has(role))
    .map((role) => [`swatch role-${role}`, ROLE_LETTERS[role], text(`role.${role}`)]);
  if (view.shown.targets !== null) {
    items.push(["swatch counted", "", text("legend.counted")]);
    items.push(["swatch ignored", NOT_COUNTED, text("legend.ignored")]);
  }
  if (view.differences > 0) {
    items.push(["swatch differs", "≠", text("legend.differs")]);
  }
  return items.map(([kind, letter, name]) =>
    element("li", {}, element("span", { class: kind, "aria-hidden": "true" }, letter), ` ${name}`),
  );
}
