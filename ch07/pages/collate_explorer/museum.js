"use strict";

/* Mistakes of the museum (ch07/exercises/museum), each as a function like those of collate.js.

   `key` is the checker's name for the mistake, `of` the function that it is a wrong version of,
   `seen` where it has been seen, `show` an address within this page with rows for which it
   matters. A mistake runs only on batches that the right function accepts. `inputAt` and
   `targetAt`, where a mistake has them, tell which of its row's tokens stands in a column:
   { column, width, length } -> place; otherwise inputs stand at their column, targets one on. */

// Columns from the first to the limit, as Python's [:allowed_max_length] cuts them.
function cutColumns(rows, allowedMaxLength) {
  return rows.map((row) => row.slice(0, allowedMaxLength ?? undefined));
}

// Rows padded to a width, on the right.
function padTo(batch, padId, width) {
  return batch.map(({ ids }) => [...ids, ...repeated(padId, width - ids.length)]);
}

// What most wrong masks start from: inputs, and shifted targets with a filling after each end.
function shiftedBatch(batch, inputFilling, end, targetFilling) {
  const width = longestOf(batch);
  const targets = batch.map(({ ids }) => [
    ...ids.slice(1),
    end,
    ...repeated(targetFilling, width - ids.length),
  ]);
  return { inputs: padTo(batch, inputFilling, width), targets };
}

// Both rectangles cut to allowedMaxLength columns.
function cutBatch({ inputs, targets }, { allowedMaxLength }) {
  return {
    inputs: cutColumns(inputs, allowedMaxLength),
    targets: cutColumns(targets, allowedMaxLength),
  };
}

// The final version with the first `maskedOf(row)` targets of each row masked.
function maskedPrompts(batch, options, maskedOf) {
  const { inputs, targets } = collateFinal(batch, options);
  batch.forEach((row, i) => targets[i].fill(options.ignoreIndex, 0, maskedOf(row)));
  return { inputs, targets };
}

const WHOLE_CONTEXT = 1024; // tokens, of GPT-2
const HEADER_LENGTH = 6; // tokens of "\n\n### Response:\n"

const MISTAKES = [
  {
    key: "pad-fixed-length",
    of: "draft1",
    seen: "https://github.com/deepspeedai/DeepSpeedExamples/issues/849",
    show: "use=draft1&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, { padId }) => ({
      inputs: padTo(batch, padId, WHOLE_CONTEXT),
      targets: NO_TARGETS,
    }),
  },
  {
    key: "pad-left",
    of: "draft1",
    seen: "https://github.com/tloen/alpaca-lora/issues/315",
    show: "use=draft1&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    inputAt: ({ column, width, length }) => {
      const place = column - (width - length);
      return place < 0 ? length : place;
    },
    run: (batch, { padId }) => {
      const width = longestOf(batch);
      const inputs = batch.map(({ ids }) => [...repeated(padId, width - ids.length), ...ids]);
      return { inputs, targets: NO_TARGETS };
    },
  },
  {
    key: "pad-zero",
    of: "draft1",
    seen: "https://github.com/EleutherAI/gpt-neo/pull/50",
    show: "use=draft1&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch) => ({ inputs: padTo(batch, 0, longestOf(batch)), targets: NO_TARGETS }),
  },
  {
    key: "extra-column",
    of: "draft1",
    seen: "https://github.com/rasbt/LLMs-from-scratch/pull/270",
    show: "use=draft1&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, { padId }) => ({
      inputs: padTo(batch, padId, longestOf(batch) + 1),
      targets: NO_TARGETS,
    }),
  },
  {
    key: "no-shift",
    of: "draft2",
    seen: "https://github.com/huggingface/transformers/issues/27517",
    show: "use=draft2&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    targetAt: ({ column }) => column,
    run: (batch, { padId }) => {
      const inputs = padTo(batch, padId, longestOf(batch));
      return { inputs, targets: inputs.map((row) => [...row]) };
    },
  },
  {
    key: "double-shift",
    of: "draft2",
    seen: "https://github.com/huggingface/transformers/issues/47394",
    show: "use=draft2&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    targetAt: ({ column }) => column + 2,
    run: (batch, { padId }) => {
      return shiftedBy(2, padTo(batch, padId, longestOf(batch) + 2));
    },
  },
  {
    key: "shift-backwards",
    of: "draft2",
    seen: "https://github.com/rasbt/LLMs-from-scratch/issues/508",
    show: "use=draft2&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    targetAt: ({ column, length }) => (column === 0 ? length : column - 1),
    run: (batch, { padId }) => {
      const inputs = padTo(batch, padId, longestOf(batch));
      const targets = inputs.map((row) => [padId, ...row.slice(0, -1)].slice(0, row.length));
      return { inputs, targets };
    },
  },
  {
    key: "roll-wraps",
    of: "draft2",
    seen: "https://github.com/google/BIG-bench/pull/876",
    show: "use=draft2&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    targetAt: ({ column, width }) => (column + 1) % width,
    run: (batch, { padId }) => {
      const inputs = padTo(batch, padId, longestOf(batch));
      return { inputs, targets: inputs.map((row) => [...row.slice(1), ...row.slice(0, 1)]) };
    },
  },
  {
    key: "end-dropped",
    of: "draft2",
    seen: "https://github.com/huggingface/trl/issues/3083",
    show: "use=draft2&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, { padId }) => {
      return shiftedBy(1, padTo(batch, padId, longestOf(batch)));
    },
  },
  {
    key: "all-padding-masked",
    of: "final",
    seen: "https://github.com/huggingface/transformers/issues/22794",
    show: "use=final&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, options) => {
      const { padId, ignoreIndex } = options;
      const { inputs, targets } = shiftedBatch(batch, padId, padId, padId);
      const masked = targets.map((row) => row.map((id) => (id === padId ? ignoreIndex : id)));
      return cutBatch({ inputs, targets: masked }, options);
    },
  },
  {
    key: "none-masked",
    of: "final",
    seen: "https://github.com/meta-llama/llama-cookbook/issues/73",
    show: "use=final&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, options) =>
      cutBatch(shiftedBatch(batch, options.padId, options.padId, options.padId), options),
  },
  {
    key: "mask-by-value",
    of: "final",
    seen: "https://github.com/NVIDIA-NeMo/Megatron-Bridge/pull/4660",
    show: "use=final&ids=1,50256,2,3&ids=4,5,6",
    run: (batch, options) => {
      const { padId, ignoreIndex } = options;
      const { inputs, targets } = shiftedBatch(batch, padId, padId, padId);
      const masked = targets.map((row) => {
        const first = row.indexOf(padId);
        return row.map((id, column) => (id === padId && column > first ? ignoreIndex : id));
      });
      return cutBatch({ inputs, targets: masked }, options);
    },
  },
  {
    key: "ignore-in-inputs",
    of: "final",
    seen: "https://github.com/huggingface/transformers/issues/15867",
    show: "use=final&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, options) =>
      cutBatch(
        shiftedBatch(batch, options.ignoreIndex, options.padId, options.ignoreIndex),
        options,
      ),
  },
  {
    key: "truncate-one-side",
    of: "final",
    seen: "https://github.com/kermitt2/delft/pull/89",
    show: "use=final&max=3&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, { padId, ignoreIndex, allowedMaxLength }) => {
      const { inputs, targets } = shiftedBatch(batch, padId, padId, ignoreIndex);
      return { inputs: cutColumns(inputs, allowedMaxLength), targets };
    },
  },
  {
    key: "pad-hard-coded",
    of: "final",
    seen: "https://github.com/INK-USC/MHGRN/pull/8",
    show: "use=final&pad=1&ids=0,7,3,8,4&ids=5,6&ids=7,8,9",
    run: (batch, options) => cutBatch(shiftedBatch(batch, 50256, 50256, options.ignoreIndex), options),
  },
  {
    key: "cut-row-gets-end",
    of: "final",
    seen: "https://github.com/huggingface/transformers/issues/19742",
    show: "use=final&max=3&ids=0,1,2,3,4&ids=5,6&ids=7,8,9",
    run: (batch, { padId, ignoreIndex, allowedMaxLength }) => {
      const cut = batch.map(({ ids }) => ({ ids: ids.slice(0, allowedMaxLength ?? undefined) }));
      return shiftedBatch(cut, padId, padId, ignoreIndex);
    },
  },
  {
    key: "prompt-length-off-by-one",
    of: "response",
    seen: "https://github.com/tloen/alpaca-lora/pull/306",
    show: "use=response&ids=1,2,3,4,5|3&ids=6,7,8|2",
    run: (batch, options) => maskedPrompts(batch, options, ({ promptLength }) => promptLength),
  },
  {
    key: "header-in-loss",
    of: "response",
    seen:
      "https://github.com/rasbt/LLMs-from-scratch/blob/0114dee9f62dabca24056e7a9255e03aed88c838/" +
      "ch07/01_main-chapter-code/exercise_experiments.py",
    show: 'use=response&text=["Name a colour.","","Red"]&text=["Give the opposite.","cold","hot"]',
    run: (batch, options) =>
      maskedPrompts(batch, options, ({ promptLength }) =>
        Math.max(promptLength - HEADER_LENGTH - 1, 0),
      ),
  },
  {
    key: "end-masked-too",
    of: "response",
    seen: "https://github.com/meta-pytorch/torchtune/issues/2792",
    show: "use=response&ids=1,2,3,4,5|3&ids=6,7,8|2",
    run: (batch, options) => {
      const { inputs, targets } = collateResponse(batch, options);
      batch.forEach(({ ids }, i) => targets[i].fill(options.ignoreIndex, ids.length - 1));
      return { inputs, targets };
    },
  },
  {
    key: "prompt-length-zero",
    of: "response",
    seen:
      "https://github.com/rasbt/LLMs-from-scratch/blob/0114dee9f62dabca24056e7a9255e03aed88c838/" +
      "ch07/01_main-chapter-code/exercise_experiments.py",
    show: "use=response&ids=1,2,3,4|0&ids=5,6,7,8,9|2",
    // Array.prototype.fill reads a negative end as Python's slice does: -1 leaves out the last.
    run: (batch, options) => maskedPrompts(batch, options, ({ promptLength }) => promptLength - 1),
  },
];

// The mistake of that name, or null.
function findMistake(key) {
  return MISTAKES.find((mistake) => mistake.key === key) ?? null;
}
