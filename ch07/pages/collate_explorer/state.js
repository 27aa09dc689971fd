"use strict";

/* What is chosen on the page, and the part of its address after # that says the same.

   A state is { use, pad, ignore, max, model, style, mistake, language, rows }. The numbers are
   kept as they were typed. A row is { kind: "ids", ids, prompt } or { kind: "text", instruction,
   input, output }. In an address a row is one of

   ids=1,2,50256         ids=1,2,50256|2 (a prompt of 2 tokens)
   text=["instruction","input","response"]
   entry=3               the entry of that number among those that came with the page */

const MAX_ROWS = 8;
const BOOK_ROWS = ["0, 1, 2, 3, 4", "5, 6", "7, 8, 9"];
const CHOICES = { use: Object.keys(COLLATE), model: MODELS };
const PLAIN_FIELDS = ["pad", "ignore", "max"];

// A row of ids with a prompt of that many tokens.
function idsRow(ids, prompt = "0") {
  return { kind: "ids", ids, prompt };
}

// A row of text, of which any part may be missing.
function textRow(instruction = "", input = "", output = "") {
  return { kind: "text", instruction, input, output };
}

// What is shown at first: the book's three rows in the final version.
function firstState(language) {
  return {
    use: "final",
    pad: "50256",
    ignore: "-100",
    max: "",
    model: "bigram",
    style: "book",
    mistake: "",
    language,
    rows: BOOK_ROWS.map((ids) => idsRow(ids)),
  };
}

// The row that a part of an address describes, or null.
function readRow(kind, value, entries) {
  if (kind === "ids") {
    const [ids, prompt] = value.split("|");
    return idsRow(ids.replaceAll(/\s*,\s*/g, ", "), prompt ?? "0");
  }
  if (kind === "entry") {
    const entry = /^\d+$/.test(value) ? entries[Number(value)] : undefined;
    return entry ? textRow(entry.instruction, entry.input, entry.output) : null;
  }
  try {
    const parts = JSON.parse(value);
    const isText = Array.isArray(parts) && parts.every((part) => typeof part === "string");
    return isText && parts.length <= 3 ? textRow(...parts) : null;
  } catch {
    return null;
  }
}

// Whether a choice of an address exists on this page.
function isKnown(key, value, page) {
  if (key === "mistake") {
    return findMistake(value) !== null;
  }
  const choices = { ...CHOICES, style: Object.keys(page.styles), lang: Object.keys(page.texts) };
  return (choices[key] ?? []).includes(value);
}

// { state, unread }: the state of an address, and the parts of it that could not be read.
function readAddress(hash, page) {
  const state = firstState(page.language);
  const unread = [];
  const rows = [];
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (["ids", "text", "entry"].includes(key)) {
      const row = readRow(key, value, page.entries);
      const fits = row !== null && rows.length < MAX_ROWS;
      (fits ? rows : unread).push(fits ? row : `${key}=${value}`);
    } else if (PLAIN_FIELDS.includes(key)) {
      state[key] = value;
    } else if (isKnown(key, value, page)) {
      state[key === "lang" ? "language" : key] = value;
    } else if (key !== "rows") {
      unread.push(`${key}=${value}`);
    }
  }
  if (rows.length > 0 || /(^|[#&])rows=0(&|$)/.test(hash)) {
    state.rows = rows;
  }
  if (state.mistake !== "") {
    state.use = findMistake(state.mistake).of;
  }
  return { state, unread };
}

// A row as a part of an address: [key, value].
function writeRow(row) {
  if (row.kind === "text") {
    return ["text", JSON.stringify([row.instruction, row.input, row.output])];
  }
  const prompt = ["", "0"].includes(row.prompt.trim()) ? "" : `|${row.prompt}`;
  return ["ids", row.ids.replaceAll(/\s*,\s*/g, ",") + prompt];
}

// The address of a state, without #; what is as at first is left out, but for the rows.
function writeAddress(state, language) {
  const first = firstState(language);
  const parts = [["use", state.use]];
  for (const key of [...PLAIN_FIELDS, "model", "style", "mistake"]) {
    if (state[key] !== first[key]) {
      parts.push([key, state[key]]);
    }
  }
  if (state.language !== language) {
    parts.push(["lang", state.language]);
  }
  parts.push(...state.rows.map(writeRow));
  if (state.rows.length === 0) {
    parts.push(["rows", "0"]);
  }
  const address = new URLSearchParams(parts).toString();
  return address.replaceAll("%2C", ",").replaceAll("%7C", "|");
}
