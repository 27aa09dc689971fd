"use strict";

/* The four functions of collate.py: rows of token ids -> one rectangle of inputs, one of targets.

   A batch is a list of { ids, promptLength }; only the response-only function reads promptLength.
   Each function returns { inputs, targets }, lists of rows of equal width; draft 1 has no targets.
   Options: padId, ignoreIndex, and allowedMaxLength, which is null without a limit.
   A CollateError has the message of the ValueError that collate.py raises. */

const NO_TARGETS = null;

// A batch that collate.py refuses; `field` and `row` say what is at fault, null where nothing is.
class CollateError extends Error {
  constructor(message, field = null, row = null) {
    super(message);
    this.field = field;
    this.row = row;
  }
}

// A list of n equal values.
function repeated(value, n) {
  return new Array(Math.max(n, 0)).fill(value);
}

// The number of tokens of the longest row.
function longestOf(batch) {
  return Math.max(...batch.map((row) => row.ids.length));
}

// The drafts check nothing but that there is a row, as Python's max() does.
function checkNotEmpty(batch) {
  if (batch.length === 0) {
    throw new CollateError("max() iterable argument is empty");
  }
}

// Pads every row to the length of the longest.
function collateDraft1(batch, { padId }) {
  checkNotEmpty(batch);
  const width = longestOf(batch);
  const inputs = batch.map(({ ids }) => [...ids, ...repeated(padId, width - ids.length)]);
  return { inputs, targets: NO_TARGETS };
}

// Rows as inputs without their last columns, and as targets without their first ones.
function shiftedBy(columns, rows) {
  return {
    inputs: rows.map((row) => row.slice(0, -columns)),
    targets: rows.map((row) => row.slice(columns)),
  };
}

// Adds the targets, which are the inputs shifted by one; at least one end follows each row.
function collateDraft2(batch, { padId }) {
  checkNotEmpty(batch);
  const width = longestOf(batch) + 1;
  const padded = batch.map(({ ids }) => [...ids, ...repeated(padId, width - ids.length)]);
  return shiftedBy(1, padded);
}

// Refuses a padding that is no token id, and an ignore_index that is one.
function checkSpecialIds(padId, ignoreIndex) {
  if (padId < 0) {
    throw new CollateError(`pad_token_id is ${padId}, but a token id is an int, 0 or more`, "pad");
  }
  if (ignoreIndex >= 0) {
    throw new CollateError(
      `ignore_index is ${ignoreIndex}, but must be an int below 0, so that no token has it`,
      "ignore",
    );
  }
}

// Refuses a row without a token, or with a negative one.
function checkRow(ids, row) {
  if (ids.length === 0) {
    throw new CollateError(`row ${row} of the batch: expected a list of token ids, got []`, "ids", row);
  }
  const smallest = ids.reduce((one, other) => Math.min(one, other));
  if (smallest < 0) {
    throw new CollateError(`row ${row} of the batch: ${smallest} is not a token id`, "ids", row);
  }
}

// Final version: targets beyond a row's own end are ignoreIndex. The end's place follows from the
// row's length, and a row that is cut has the token after the cut as its last target.
function collateFinal(batch, { padId, ignoreIndex, allowedMaxLength }) {
  checkSpecialIds(padId, ignoreIndex);
  batch.forEach(({ ids }, row) => checkRow(ids, row));
  if (batch.length === 0) {
    throw new CollateError("empty batch");
  }
  if (allowedMaxLength !== null && allowedMaxLength < 1) {
    throw new CollateError(
      `allowed_max_length is ${allowedMaxLength}, but must be 1 or more`,
      "max",
    );
  }
  const width = Math.min(longestOf(batch), allowedMaxLength ?? Infinity);
  const inputs = [];
  const targets = [];
  for (const { ids } of batch) {
    const n = Math.min(ids.length, width);
    const isCut = n < ids.length;
    const last = isCut ? ids[n] : padId; // the next token, or the end
    inputs.push([...ids.slice(0, n), ...repeated(padId, width - n)]);
    targets.push([...ids.slice(1, n), last, ...repeated(ignoreIndex, width - n)]);
  }
  return { inputs, targets };
}

// Like the final version, but only the answer and its end are targets. Position i predicts token
// i + 1, so promptLength - 1 targets are masked.
function collateResponse(batch, options) {
  const { inputs, targets } = collateFinal(batch, options);
  batch.forEach(({ ids, promptLength }, row) => {
    if (promptLength < 0 || promptLength > ids.length) {
      throw new CollateError(
        `row ${row} of the batch: prompt_length is ${promptLength}, ` +
          `but the row has ${ids.length} tokens`,
        "prompt",
        row,
      );
    }
    targets[row].fill(options.ignoreIndex, 0, Math.max(promptLength - 1, 0));
  });
  return { inputs, targets };
}

const COLLATE = {
  draft1: collateDraft1,
  draft2: collateDraft2,
  final: collateFinal,
  response: collateResponse,
};
