"use strict";

/* Three toy models, and the loss of a batch under one of them.

   The one idea: a model gives each token a probability to come next, and the loss of a target is
   minus the logarithm of its probability. The models are made of counts of training rows:

   uniform   1 / V: every token is as likely as any other
   unigram   p(b) = (count(b) + 1) / (all + V)
   bigram    p(b | a) = 0.9 count(a, b) / count(a) + 0.1 p(b): what follows which; p(b) where
             a was never followed by anything

   Counts are { vocabulary, tokens: [[id, n], ...], pairs: [[id, next, n], ...] }. */

const PAIR_SHARE = 0.9;
const MODELS = ["uniform", "unigram", "bigram"];

// A toy model: vocabulary is its number of tokens, loss(before, target) in nats.
function makeToyModel(name, counts) {
  const V = counts.vocabulary;
  const tokens = new Map(counts.tokens);
  const all = counts.tokens.reduce((sum, [, n]) => sum + n, 0);
  const pairs = new Map();
  const starts = new Map();
  for (const [before, next, n] of counts.pairs) {
    pairs.set(before * V + next, n);
    starts.set(before, (starts.get(before) ?? 0) + n);
  }
  const single = (target) => ((tokens.get(target) ?? 0) + 1) / (all + V);
  const probabilities = {
    uniform: () => 1 / V,
    unigram: (_, target) => single(target),
    bigram: (before, target) =>
      starts.has(before)
        ? (PAIR_SHARE * (pairs.get(before * V + target) ?? 0)) / starts.get(before) +
          (1 - PAIR_SHARE) * single(target)
        : single(target),
  };
  const probability = probabilities[name];
  return { vocabulary: V, loss: (before, target) => -Math.log(probability(before, target)) };
}

// The first place of a rectangle whose value is not accepted, or null.
function findPlace(rows, accepts) {
  for (const [row, values] of rows.entries()) {
    const column = values.findIndex((value) => !accepts(value));
    if (column !== -1) {
      return { row, column, id: values[column] };
    }
  }
  return null;
}

// Why PyTorch would raise an error instead of computing a loss, or null: { kind, ... }.
function lossProblem({ inputs, targets }, ignoreIndex, vocabulary) {
  const isToken = (id) => id >= 0 && id < vocabulary;
  const input = findPlace(inputs, isToken);
  if (input !== null) {
    return { kind: "input", ...input };
  }
  if (targets === null) {
    return null;
  }
  const wide = inputs[0].length;
  if (targets[0].length !== wide) {
    return { kind: "shape", inputs: wide, targets: targets[0].length };
  }
  const target = findPlace(targets, (id) => id === ignoreIndex || isToken(id));
  return target === null ? null : { kind: "target", ...target };
}

/* The loss of a batch: { counted, losses, number, sum, mean, problem }.

   counted and losses are rows like the targets; losses are null where a target is not counted.
   mean is sum / number, and null where nothing is counted or where there is a problem. */
function batchLoss(batch, ignoreIndex, model) {
  const { inputs, targets } = batch;
  const problem = lossProblem(batch, ignoreIndex, model.vocabulary);
  const counted = (targets ?? []).map((row) => row.map((id) => id !== ignoreIndex));
  const losses = counted.map((row, i) =>
    row.map((counts, column) =>
      counts && problem === null ? model.loss(inputs[i][column], targets[i][column]) : null,
    ),
  );
  const number = counted.flat().filter(Boolean).length;
  const sum = losses.flat().reduce((total, loss) => total + (loss ?? 0), 0);
  const mean = number === 0 || problem !== null ? null : sum / number;
  return { counted, losses, number, sum, mean, problem };
}
