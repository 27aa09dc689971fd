"use strict";

/* A text as a model reads it: the loss of each token, the likeliest next tokens, the attention.

   The one idea: a reading keeps the hidden state after each token. All that is asked of it later
   (what comes next, at which temperature) is computed from there, and a new token is read alone. */

const ROWS_OF_LOGITS = 16; // computed at once: the logits of a long text would fill the memory
const TOP_TOKENS = 10; // that are listed

// The model in a page's data: {kind, config, layout, float16, remainders}, both weights in base64.
function modelFromData({ kind, config, layout, float16, remainders }) {
  const extra = remainders === null ? null : bytesFromBase64(remainders);
  const numbers = numbersFromFloat16(bytesFromBase64(float16), extra);
  const weights = tensorsFromNumbers(layout, numbers);
  return kind === "llama" ? new LlamaModel(config, weights) : new GPTModel(config, weights);
}

// The next three go through the whole vocabulary for each token, so they are plain loops.

// log(sum(exp(logits / temperature))): a logit divided by the temperature, minus this, is log p.
function logSumExp(logits, temperature = 1) {
  const largest = largestOf(logits);
  let total = 0;
  for (let id = 0; id < logits.length; id += 1) {
    total += Math.exp((logits[id] - largest) / temperature);
  }
  return largest / temperature + Math.log(total);
}

// The place of a token among all, the likeliest first; of equal ones, the smaller id is first.
function rankOf(logits, id) {
  const own = logits[id];
  let rank = 1;
  for (let other = 0; other < logits.length; other += 1) {
    if (logits[other] > own || (logits[other] === own && other < id)) {
      rank += 1;
    }
  }
  return rank;
}

// The ids of the k largest logits, the largest first; of equal ones, the smaller id is first.
function topIds(logits, k) {
  const top = [];
  let threshold = -Infinity; // what a logit must exceed to be among them
  for (let id = 0; id < logits.length; id += 1) {
    if (top.length === k && logits[id] <= threshold) {
      continue;
    }
    let place = top.length;
    while (place > 0 && logits[top[place - 1]] < logits[id]) {
      place -= 1;
    }
    top.splice(place, 0, id);
    top.length = Math.min(top.length, k);
    threshold = logits[top[top.length - 1]];
  }
  return top;
}

// How well the logits predicted a token: its loss in nats, its rank, and the likeliest token.
function judgeToken(logits, id) {
  const [best] = topIds(logits, 1);
  const total = logSumExp(logits);
  return {
    loss: total - logits[id],
    rank: rankOf(logits, id),
    best,
    bestProbability: Math.exp(logits[best] - total),
  };
}

// A text that a model has read up to its last token, and can read on.
class Reading {
  constructor(model, maxLength = model.config.context_length) {
    this.model = model;
    this.ids = [];
    this.hidden = []; // of each token, (C,)
    this.attention = model.trf_blocks.map(() => []); // [layer][token]: (H, keys)
    this.cache = model.newCache(Math.min(maxLength, model.config.context_length));
  }

  // Reads further tokens.
  read(ids) {
    const { hidden, attention } = this.model.forward(ids, this.cache);
    const C = this.model.config.emb_dim;
    ids.forEach((id, t) => {
      this.ids.push(id);
      this.hidden.push(hidden.slice(t * C, (t + 1) * C));
    });
    attention.forEach((rows, layer) => this.attention[layer].push(...rows));
  }

  // The logits of what comes after the token at a place.
  logitsAfter(place) {
    return this.model.logits(this.hidden[place]);
  }

  /* What `judgeToken` says of each token but the first, which nothing predicts: null. `end` is a
     token that follows the text without having been read. */
  judgements(end) {
    const V = this.model.config.vocab_size;
    const targets = [...this.ids.slice(1), end];
    const judged = [null];
    for (let start = 0; start < targets.length; start += ROWS_OF_LOGITS) {
      const rows = this.hidden.slice(start, start + ROWS_OF_LOGITS);
      const logits = this.model.logits(joinRows(rows));
      rows.forEach((_, t) => {
        const row = logits.subarray(t * V, (t + 1) * V);
        judged.push(judgeToken(row, targets[start + t]));
      });
    }
    return judged;
  }

  /* The likeliest tokens after a place, and the one that does come there, if any, with their
     probabilities at a temperature. */
  predict(place, right, temperature = 1) {
    const logits = this.logitsAfter(place);
    const total = logSumExp(logits, temperature);
    const probability = (id) => Math.exp(logits[id] / temperature - total);
    return {
      top: topIds(logits, TOP_TOKENS).map((id) => ({ id, probability: probability(id) })),
      right:
        right === null
          ? null
          : { id: right, probability: probability(right), rank: rankOf(logits, right) },
    };
  }

  // The likeliest token after the last one.
  greedyNext() {
    return topIds(this.logitsAfter(this.ids.length - 1), 1)[0];
  }
}

// Rows of equal length as one array.
function joinRows(rows) {
  const joined = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, i) => joined.set(row, i * row.length));
  return joined;
}
