"use strict";

/* A question as a prompt, and a prompt as token ids: `instruction_dataset.py` in JavaScript. */

/* The prompt in pieces, [{role, text}]: a style is {with_input, no_input}, each [[role, text]], where
   a field's text is null. Fields have no white space around them, as in training data and in
   `python -m ch07 respond`. */
function promptParts(style, instruction, input) {
  const fields = { instruction: stripped(instruction), input: stripped(input) };
  const template = fields.input === "" ? style.no_input : style.with_input;
  return template
    .map(([role, text]) => ({ role, text: text ?? fields[role] }))
    .filter(({ text }) => text !== "");
}

// The pieces of a prompt that a reader has edited as a whole: `marks` in it are the template's.
function partsOfWholePrompt(text) {
  return [{ role: "template", text }];
}

// A text cut at marks, each of which is a piece of its own; of marks that begin alike, the longest.
function splitAtMarks(text, marks) {
  const longestFirst = [...marks].sort((a, b) => b.length - a.length);
  const pieces = [];
  let start = 0;
  for (let i = 0; i < text.length; ) {
    const mark = longestFirst.find((candidate) => text.startsWith(candidate, i));
    if (mark === undefined) {
      i += 1;
      continue;
    }
    pieces.push(text.slice(start, i), mark);
    i += mark.length;
    start = i;
  }
  pieces.push(text.slice(start));
  return pieces.filter((piece) => piece !== "");
}

/* The ids of a prompt in pieces. A mark in a template, such as "<|im_start|>", is a token of its
   own; a mark that a user types is ordinary text. `marks` is {text: id}. */
function encodeParts(parts, tokenizer, marks) {
  const ids = [];
  let text = ""; // what has come since the last mark
  for (const part of parts) {
    const isTemplate = part.role === "template";
    const pieces = isTemplate ? splitAtMarks(part.text, Object.keys(marks)) : [part.text];
    for (const piece of pieces) {
      if (isTemplate && Object.hasOwn(marks, piece)) {
        ids.push(...tokenizer.encode(text), marks[piece]);
        text = "";
      } else {
        text += piece;
      }
    }
  }
  return [...ids, ...tokenizer.encode(text)];
}

// The marks that occur in a style's templates: only these are marks in a whole prompt.
function marksOfStyle(style, marks) {
  const templates = [...style.with_input, ...style.no_input].map(([, text]) => text ?? "");
  const used = Object.entries(marks).filter(([mark]) =>
    templates.some((text) => text.includes(mark)),
  );
  return Object.fromEntries(used);
}
