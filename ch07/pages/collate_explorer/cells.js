"use strict";

/* From what is chosen to what is shown: rows as ids, the right batch, the mistaken one, its loss,
   and a cell for each position that tells its own story.

   A fault of a field is { field, row, text, values }: text is a key of texts.json. */

const NOT_COUNTED = "·";
const END_ROLE = "end";
const PADDING_ROLE = "padding";
const WHOLE_NUMBER = /^-?\d+$/;

// A field that holds one whole number; null and a fault if it doesn't, or null if it may be empty.
function readNumber(text, field, mayBeEmpty) {
  const trimmed = text.trim();
  if (trimmed === "" && mayBeEmpty) {
    return { value: null, fault: null };
  }
  if (!WHOLE_NUMBER.test(trimmed)) {
    const key = trimmed === "" ? "fault.missing" : "fault.number";
    return { value: null, fault: { field, row: null, text: key, values: { word: trimmed } } };
  }
  if (!Number.isSafeInteger(Number(trimmed))) {
    return { value: null, fault: { field, row: null, text: "fault.size", values: { word: trimmed } } };
  }
  return { value: Number(trimmed), fault: null };
}

// A row of ids as { ids, promptLength, roles }, or its faults.
function readIdsRow(row, number, needsPrompt) {
  const words = row.ids.trim().replace(/^\[(.*)\]$/s, "$1").split(/[\s,，、]+/).filter(Boolean);
  const faults = [];
  const ids = words.map((word) => {
    const { value, fault } = readNumber(word, "ids", false);
    if (fault !== null) {
      faults.push({ ...fault, row: number });
    }
    return value;
  });
  const prompt = readNumber(row.prompt, "prompt", false);
  if (needsPrompt && prompt.fault !== null) {
    faults.push({ ...prompt.fault, row: number });
  }
  const promptLength = prompt.value ?? 0;
  const rest = needsPrompt ? "answer" : "token";
  const roles = ids.map((_, place) => (needsPrompt && place < promptLength ? "prompt" : rest));
  return { ids, promptLength, roles, faults: faults.slice(0, 1) };
}

// The prompt of a row in pieces [role, text]; a style's piece without text is the field itself.
function promptParts(row, style) {
  const pieces = stripped(row.input) === "" ? style.no_input : style.with_input;
  return pieces
    .map(([role, text]) => [role, text ?? row[role]])
    .filter(([, text]) => text !== "");
}

// The role of each token of a prompt; a token that spans two parts belongs to where it begins.
function promptRoles(ids, parts, tokenizer) {
  const encoder = new TextEncoder();
  const roleOfByte = parts.flatMap(([role, text]) => repeated(role, encoder.encode(text).length));
  let place = 0;
  return ids.map((id) => {
    const role = roleOfByte[place];
    place += tokenizer.size(id);
    return role;
  });
}

// A row of text as { ids, promptLength, roles }: prompt and answer are tokenized apart.
function readTextRow(row, number, style, tokenizer) {
  const faults = ["instruction", "input", "output"]
    .filter((field) => /\p{Cs}/u.test(row[field]))
    .map((field) => ({ field, row: number, text: "fault.half", values: {} }));
  const parts = promptParts(row, style);
  const prompt = tokenizer.encode(parts.map(([, text]) => text).join(""));
  const answer = tokenizer.encode(row.output);
  const roles = [...promptRoles(prompt, parts, tokenizer), ...repeated("answer", answer.length)];
  return { ids: [...prompt, ...answer], promptLength: prompt.length, roles, faults };
}

// The numbers that hold for the whole batch, and their faults. The drafts read only the padding.
function readOptions(state) {
  const isDraft = ["draft1", "draft2"].includes(state.use);
  const pad = readNumber(state.pad, "pad", false);
  const ignore = isDraft ? { value: -100, fault: null } : readNumber(state.ignore, "ignore", false);
  const max = isDraft ? { value: null, fault: null } : readNumber(state.max, "max", true);
  return {
    options: { padId: pad.value, ignoreIndex: ignore.value, allowedMaxLength: max.value },
    faults: [pad, ignore, max].map(({ fault }) => fault).filter((fault) => fault !== null),
  };
}

/* Everything that is to be shown for a state: { faults, refusal, batch, right, shown, loss,
   rightLoss, cells, differences }. With a fault or a refusal the rest is missing. */
function computeView(state, page) {
  const { options, faults } = readOptions(state);
  const needsPrompt = state.use === "response";
  const batch = state.rows.map((row, number) =>
    row.kind === "ids"
      ? readIdsRow(row, number, needsPrompt)
      : readTextRow(row, number, page.styles[state.style], page.tokenizer),
  );
  faults.push(...batch.flatMap((row) => row.faults));
  if (faults.length > 0) {
    return { faults, refusal: null, batch };
  }
  let right;
  try {
    right = COLLATE[state.use](batch, options);
  } catch (error) {
    if (!(error instanceof CollateError)) {
      throw error;
    }
    return { faults, refusal: error, batch };
  }
  const mistake = findMistake(state.mistake);
  const shown = mistake === null ? right : mistake.run(batch, options);
  const model = page.models[state.model];
  const loss = batchLoss(shown, options.ignoreIndex, model);
  const rightLoss = batchLoss(right, options.ignoreIndex, model);
  const context = { batch, options, right, shown, loss, mistake, tokenizer: page.tokenizer };
  const cells = batch.map((_, row) => makeCells(row, context));
  const differences = cells.flat().filter((cell) => cell.differs).length;
  return { faults, refusal: null, batch, options, right, shown, loss, rightLoss, cells, differences };
}

// A token as one visible word; its number if the tokenizer doesn't have it.
function pieceOf(id, tokenizer) {
  return id >= 0 && id <= 50256 ? tokenizer.piece(id) : String(id);
}

// The role of what stands in a place of a row, by position; `value` tells an end from padding.
function roleAt(value, place, row, padId, isTarget) {
  const isOwn = place < row.ids.length && row.ids[place] === value;
  if (isOwn) {
    return row.roles[place];
  }
  return isTarget && value === padId && place <= row.ids.length ? END_ROLE : PADDING_ROLE;
}

// The cells of one row: one for each column of the wider rectangle, right or mistaken.
function makeCells(row, context) {
  const { right, shown } = context;
  const rows = [right.inputs, right.targets, shown.inputs, shown.targets];
  const width = Math.max(...rows.map((values) => (values === null ? 0 : values[row].length)));
  return Array.from({ length: width }, (_, column) => makeCell(row, column, context));
}

// One position: input and target of what is shown, and what is right where that differs.
function makeCell(row, column, context) {
  const { batch, options, right, shown, loss, mistake, tokenizer } = context;
  const at = (values) => values?.[row]?.[column] ?? null;
  const input = at(shown.inputs);
  const target = at(shown.targets);
  const width = shown.inputs[row].length;
  const placeIn = { column, width, length: batch[row].ids.length };
  const inputPlace = mistake?.inputAt ? mistake.inputAt(placeIn) : column;
  const targetPlace = mistake?.targetAt ? mistake.targetAt(placeIn) : column + 1;
  const counted = at(loss.counted) ?? false;
  const rightTarget = at(right.targets);
  return {
    row,
    column,
    input,
    inputPiece: input === null ? "" : pieceOf(input, tokenizer),
    inputRole: input === null ? "" : roleAt(input, inputPlace, batch[row], options.padId, false),
    hasTargets: shown.targets !== null,
    target,
    targetPiece: counted ? pieceOf(target, tokenizer) : "",
    targetRole: counted ? roleAt(target, targetPlace, batch[row], options.padId, true) : "",
    counted,
    loss: at(loss.losses),
    differs: input !== at(right.inputs) || target !== rightTarget,
    rightInput: at(right.inputs),
    rightInputPiece: at(right.inputs) === null ? "" : pieceOf(at(right.inputs), tokenizer),
    rightTarget,
    rightCounted: rightTarget !== null && rightTarget !== options.ignoreIndex,
    rightTargetPiece: rightTarget === null ? "" : pieceOf(rightTarget, tokenizer),
  };
}
