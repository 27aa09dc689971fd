"use strict";

/* The page itself: what is chosen (state.js) is computed (cells.js) and shown (grid.js, rows.js).

   The one idea: everything shown follows from the state, and the state is in the address. So a
   lesson can link to a case, and the back button undoes a change. */

// The data that came with the page, read once.
function readPage() {
  const data = (id) => JSON.parse(byId(id).textContent);
  const counts = data("counts");
  return {
    texts: data("texts"),
    language: data("first-language"),
    entries: data("entries"),
    styles: data("styles"),
    trainingRows: data("training-rows"),
    counts,
    tokenizer: makeTokenizer(data("merges")),
    models: Object.fromEntries(MODELS.map((name) => [name, makeToyModel(name, counts)])),
  };
}

const CASES = [
  ["book", "use=final&ids=0,1,2,3,4&ids=5,6&ids=7,8,9"],
  ["inner", "use=final&ids=1,50256,2,3&ids=4,5,6"],
  ["cut", "use=final&max=3&ids=0,1,2,3,4&ids=5,6&ids=7,8,9"],
  [
    "answers",
    'use=response&style=bare&text=["Name a colour.","","Red"]' +
      '&text=["Give the opposite of the word.","cold","hot"]' +
      '&text=["Sort the words.","pear, apple","apple, pear"]',
  ],
  ["nothing", "use=response&max=2&ids=1,2,3,4,5|3&ids=6,7,8|3"],
  ["mistake", "use=final&mistake=all-padding-masked&ids=0,1,2,3,4&ids=5,6&ids=7,8,9"],
];

const MAX_ADDRESS = 30000; // characters; browsers take more, but nobody passes them on
const ROOMY_COLUMNS = 8; // so few columns that they can be wide

const page = readPage();
let state = null; // what is chosen
let text = null; // the texts of its language
let view = null; // what was computed from it
let active = { row: 0, column: 0 }; // the cell that the keyboard is at
let typedInto = null; // the field that was last typed into: its changes are one step back

// An address within this page, with a mistake and the language that is chosen.
function addressWith(show, mistake = "") {
  const { state: there } = readAddress(show, page);
  return `#${writeAddress({ ...there, mistake: there.mistake || mistake, language: state.language }, page.language)}`;
}

// Takes over a changed state: computes, shows, and writes the address.
function change(changed, field = null) {
  state = { ...state, ...changed };
  const address = `#${writeAddress(state, page.language)}`;
  const isSameField = field !== null && field === typedInto;
  const fits = address.length <= MAX_ADDRESS;
  if (fits && address !== location.hash) {
    history[isSameField ? "replaceState" : "pushState"](null, "", address);
  }
  typedInto = field;
  showNotice(fits ? "" : text("tooLong"));
  showResult();
}

// Scrolls the grid to where the first counted targets are, as in rows that begin with a prompt.
function scrollToCounted() {
  const columns = (view.cells ?? []).map((cells) => cells.findIndex((cell) => cell.counted));
  const row = columns.findIndex((column) => column !== -1);
  const first = Math.min(...columns.filter((column) => column !== -1));
  const cell = row === -1 ? null : cellAt({ row, column: Math.max(first - 1, 0) });
  if (cell !== null) {
    const head = cell.parentElement.firstChild;
    byId("grid-box").scrollLeft = cell.offsetLeft - head.offsetWidth;
    activate({ row, column: columns[row] }, false);
  }
}

// Takes over the state of the page's own address: after a link, and on the way back.
function followAddress() {
  showAddress(location.hash);
}

// Takes over the state of an address, and shows all of it.
function showAddress(address) {
  const { state: there, unread } = readAddress(address, page);
  state = there;
  typedInto = null;
  text = makeTexts(page.texts[state.language]);
  showLanguage();
  showSettings();
  showEditor();
  showNotice(unread.length === 0 ? "" : text("unread", { parts: unread.join(" ") }));
  showResult();
  scrollToCounted();
}

// Says what is wrong with the address, or nothing.
function showNotice(sentence) {
  byId("notice").hidden = sentence === "";
  byId("notice").textContent = sentence;
}

// The texts that don't change with the batch, and the choice of a language.
function showLanguage() {
  document.documentElement.lang = state.language;
  document.title = text("title");
  for (const labelled of document.querySelectorAll("[data-text]")) {
    labelled.textContent = text(labelled.dataset.text);
  }
  const languages = Object.entries(page.texts).map(([code, { name }]) => option(code, name));
  fillSelect(byId("language"), languages, state.language);
  byId("table-scroll").setAttribute("aria-label", text("table"));
  const links = CASES.map(([key, show]) =>
    element("li", {}, element("a", { href: addressWith(show) }, text(`case.${key}`))),
  );
  byId("cases").replaceChildren(...links);
}

// The functions, as a group of radio buttons.
function showFunctions() {
  const choices = Object.keys(COLLATE).map((use) => {
    const button = element("input", { type: "radio", name: "use", value: use, id: `use-${use}` });
    button.checked = state.use === use;
    button.addEventListener("change", () => choose({ use, mistake: "" }));
    return element("label", { class: "segment" }, button, element("span", {}, text(`use.${use}`)));
  });
  byId("use").replaceChildren(...choices);
}

// All settings of the batch, as the state has them.
function showSettings() {
  showFunctions();
  for (const field of PLAIN_FIELDS) {
    byId(field).value = state[field];
    byId(field).disabled = field !== "pad" && state.use.startsWith("draft");
  }
  byId("max").placeholder = text("max.none");
  const models = MODELS.map((name) => option(name, text(`model.${name}`)));
  fillSelect(byId("model"), models, state.model);
  const styles = Object.keys(page.styles).map((name) => option(name, name));
  fillSelect(byId("style"), styles, state.style);
  const mistakes = MISTAKES.filter(({ of }) => of === state.use).map(({ key }) =>
    option(key, text(`mistake.${key}`)),
  );
  fillSelect(byId("mistake"), [option("", text("mistake.none")), ...mistakes], state.mistake);
  byId("what").textContent = text(`what.${state.use}`);
  const V = page.counts.vocabulary;
  const values = { V: V.toLocaleString("en"), loss: lossText(Math.log(V)), n: page.trainingRows };
  byId("model-what").textContent = text(`modelIs.${state.model}`, values);
}

// The editor of the rows, as the state has them.
function showEditor() {
  byId("style-field").hidden = !state.rows.some((row) => row.kind === "text");
  byId("add").disabled = state.rows.length >= MAX_ROWS;
  byId("add").title = state.rows.length >= MAX_ROWS ? text("tooMany", { max: MAX_ROWS }) : "";
  showRows(byId("rows"), state.rows, {
    text,
    entries: page.entries,
    needsPrompt: state.use === "response",
    asIds: rowAsIds,
    asText: rowAsText,
    on: { type: typeIntoRow, change: changeRow, remove: removeRow },
  });
}

// A row of text as the ids that it stands for.
function rowAsIds(number) {
  const { ids, promptLength } = readTextRow(
    state.rows[number],
    number,
    page.styles[state.style],
    page.tokenizer,
  );
  return idsRow(ids.join(", "), String(promptLength));
}

// A row of ids as the text that they stand for, or as no text if one of them is no token.
function rowAsText(number) {
  const { ids, faults } = readIdsRow(state.rows[number], number, false);
  const areTokens = faults.length === 0 && ids.every((id) => id >= 0 && id <= 50256);
  return textRow("", "", areTokens ? page.tokenizer.decode(ids) : "");
}

// What is typed into a field of a row.
function typeIntoRow(number, field, value) {
  const rows = state.rows.map((row, i) => (i === number ? { ...row, [field]: value } : row));
  change({ rows }, rowFieldId(number, field));
}

// Puts another row in the place of one, and keeps the focus on the field that did so.
function changeRow(number, row, field = "kind") {
  choose({ rows: state.rows.map((old, i) => (i === number ? row : old)) });
  byId(rowFieldId(number, field)).focus();
}

// Takes a row away, and keeps the focus near it.
function removeRow(number) {
  choose({ rows: state.rows.filter((_, i) => i !== number) });
  const blocks = document.querySelectorAll("#rows .remove");
  (blocks[Math.min(number, blocks.length - 1)] ?? byId("add")).focus();
}

// Adds a row of the kind of the last one, ready to be typed into.
function addRow() {
  const last = state.rows.at(-1);
  choose({ rows: [...state.rows, last?.kind === "text" ? textRow() : idsRow("")] });
  const first = last?.kind === "text" ? "instruction" : "ids";
  byId(rowFieldId(state.rows.length - 1, first)).focus();
}

// A choice, after which the settings and the editor may look different.
function choose(changed) {
  const focused = document.activeElement?.id;
  change(changed);
  showSettings();
  showEditor();
  showFaults();
  byId(focused)?.focus();
}

// Beside each field what is wrong with it.
function showFaults() {
  for (const field of PLAIN_FIELDS) {
    showFault(field, faultText(field, null, view, text));
  }
  showRowFaults(state.rows, view, text);
}

// Computes what the state says, and shows it.
function showResult() {
  view = computeView(state, page);
  showFaults();
  showRefusal();
  const isComputed = view.cells !== undefined;
  byId("shown").hidden = !isComputed;
  showEffect(isComputed);
  if (isComputed) {
    showNumbers();
    showLossNote();
    showGrid();
  }
}

// Why there is no batch: a field to correct, or collate.py's own words.
function showRefusal() {
  const box = byId("refusal");
  box.replaceChildren();
  if (view.faults.length > 0) {
    box.append(text("faulty"));
  } else if (view.refusal !== null) {
    box.append(text("refused"), " ", element("code", {}, `ValueError: ${view.refusal.message}`));
  }
}

// The name of the place where a mistake has been seen: "owner/name#number", or the repository.
function placeName(url) {
  const [, , , owner, name, kind, number] = url.split("/");
  return ["issues", "pull"].includes(kind) ? `${owner}/${name}#${number}` : `${owner}/${name}`;
}

// What the mistake does to learning, where it was seen, and whether these rows show it.
function showEffect(isComputed) {
  const mistake = findMistake(state.mistake);
  byId("effect").hidden = mistake === null;
  if (mistake === null) {
    return;
  }
  const parts = [element("p", { class: "effect-text" }, text(`effect.${mistake.key}`))];
  if (isComputed) {
    const n = view.differences;
    const key = { 0: "noDifference", 1: "differences.one" }[n] ?? "differences.many";
    parts.push(element("p", { id: "differences" }, text(key, { n })));
    if (n === 0) {
      const href = addressWith(mistake.show, mistake.key);
      parts.push(element("p", {}, element("a", { href, id: "show-mistake" }, text("show"))));
    }
  }
  const [before, after] = text("seen", { where: "\n" }).split("\n");
  const link = element("a", { href: mistake.seen, rel: "noreferrer" }, placeName(mistake.seen));
  parts.push(element("p", { class: "quiet" }, before, link, after));
  byId("effect").replaceChildren(...parts);
}

// The size of the batch in words.
function shapeText() {
  const { inputs, targets } = view.shown;
  const columns = inputs[0].length;
  const rows = inputs.length;
  if (targets !== null && targets[0].length !== columns) {
    return text("shapes", { rows, columns, targetColumns: targets[0].length });
  }
  const tokens = view.batch.reduce((sum, { ids }) => sum + Math.min(ids.length, columns), 0);
  return text("shape", { rows, columns, tokens, padding: rows * columns - tokens });
}

// A number with what it should be, if a mistake changes it.
function numberItem(id, name, value, small, right) {
  return element(
    "div",
    { class: "number", id },
    element("dt", {}, name),
    element("dd", {}, element("strong", {}, value), small === "" ? null : ` ${small}`),
    right === value ? null : element("dd", { class: "right" }, text("rightIs", { value: right })),
  );
}

// How many targets count, and their mean loss.
function showNumbers() {
  const { loss, rightLoss, shown, right } = view;
  const size = (targets) => (targets === null ? 0 : targets.flat().length);
  const countText = ({ number }, { targets }) =>
    targets === null ? text("none") : text("countedOf", { n: number, all: size(targets) });
  const meanText = ({ mean }) => (mean === null ? text("none") : mean.toFixed(3));
  const sum = loss.mean === null ? "" : text("sum", { sum: loss.sum.toFixed(2), n: loss.number });
  byId("numbers").replaceChildren(
    numberItem("number-counted", text("counted"), countText(loss, shown), "", countText(rightLoss, right)),
    numberItem("number-mean", text("mean"), meanText(loss), sum === "" ? "" : `= ${sum}`, meanText(rightLoss)),
    element("div", { class: "number", id: "number-shape" }, element("dt", {}, text("size")), element("dd", {}, shapeText())),
  );
}

// Why there is no loss, in a sentence.
function showLossNote() {
  const { problem, number } = view.loss;
  const last = page.counts.vocabulary - 1;
  let sentence = "";
  if (problem !== null) {
    sentence = text(`problem.${problem.kind}`, { ...problem, last });
  } else if (view.shown.targets === null) {
    sentence = text("noTargets");
  } else if (number === 0) {
    sentence = text("noCounted");
  }
  byId("loss-note").textContent = sentence;
}

// The loss that fills its box: the highest of the batch, or that of the uniform model.
function highestLoss() {
  const losses = view.loss.losses.flat();
  return losses.reduce((one, other) => Math.max(one, other ?? 0), Math.log(page.counts.vocabulary));
}

// The grid, its legend and its table.
function showGrid() {
  const context = {
    text,
    hasLoss: view.loss.mean !== null,
    highest: highestLoss(),
  };
  const grid = makeGrid(view, context);
  const columns = view.cells[0].length;
  grid.classList.toggle("roomy", columns <= ROOMY_COLUMNS);
  byId("grid-box").replaceChildren(grid); // the box keeps how far it is scrolled
  byId("wide").textContent =
    columns > COLUMNS_SHOWN ? text("wide", { shown: COLUMNS_SHOWN, columns }) : "";
  byId("legend").replaceChildren(...makeLegend(view, context));
  byId("table-scroll").replaceChildren(makeTable(view, text));
  activate(active, false);
}

// The cell of the grid at a place, or null.
function cellAt({ row, column }) {
  return byId("grid-box").querySelector(`[data-row="${row}"][data-column="${column}"]`);
}

// Makes a cell the one that Tab leads to, and tells its story.
function activate(place, isReached) {
  const before = byId("grid-box").querySelector('.cell[tabindex="0"]');
  const cell = cellAt(place) ?? byId("grid-box").querySelector(".cell");
  if (cell === null) {
    byId("story").textContent = "";
    return;
  }
  before?.setAttribute("tabindex", "-1");
  cell.setAttribute("tabindex", "0");
  active = { row: Number(cell.dataset.row), column: Number(cell.dataset.column) };
  byId("story").textContent = cell.getAttribute("aria-label");
  if (isReached) {
    cell.focus();
  }
}

// Moves within the grid by arrow keys.
function moveInGrid(event) {
  const columns = Math.min(view.cells[0].length, COLUMNS_SHOWN);
  const place = movedTo(event.key, active, view.cells.length, columns);
  if (place !== null && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    activate(place, true);
  }
}

// Connects the controls that stay on the page.
function connect() {
  for (const field of PLAIN_FIELDS) {
    byId(field).addEventListener("input", () => change({ [field]: byId(field).value }, field));
  }
  for (const field of ["model", "style", "mistake"]) {
    byId(field).addEventListener("change", () => choose({ [field]: byId(field).value }));
  }
  byId("language").addEventListener("change", () => {
    change({ language: byId("language").value });
    followAddress();
  });
  byId("add").addEventListener("click", addRow);
  byId("grid-box").addEventListener("keydown", moveInGrid);
  byId("grid-box").addEventListener("focusin", (event) => {
    const { row, column } = event.target.closest(".cell")?.dataset ?? {};
    if (row !== undefined) {
      activate({ row: Number(row), column: Number(column) }, false);
    }
  });
  window.addEventListener("hashchange", followAddress);
}

connect();
followAddress();
