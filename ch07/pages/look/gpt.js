"use strict";

/* GPT-2 by hand, once more: `gpt_model.py` in plain JavaScript, under the same names.

   The one idea: a model is a few loops over arrays of numbers. A tensor is a Float32Array that holds
   its rows one after another. Each sum is taken in JavaScript's own numbers, which have 64 bits, and
   rounded once, when it is stored. There is one text at a time, so nothing has an axis B, and no
   dropout, as nothing is trained here. Unlike PyTorch's, this attention also returns its weights.

   Axes: T tokens of this call, S tokens so far (those of this call and of the calls before it), C
   embedding, H heads, G heads of keys and values (in GPT-2, G = H), D head size, V vocabulary. */

// --- parts that GPT-2 and Llama share ------------------------------------------------------------

// The sum of a[i] * b[i] over n numbers, from places `i` and `j` on.
function dotProduct(a, i, b, j, n) {
  // Four sums at once: the processor need not wait for one addition before it begins the next.
  let sum0 = 0;
  let sum1 = 0;
  let sum2 = 0;
  let sum3 = 0;
  let k = 0;
  for (; k + 3 < n; k += 4) {
    sum0 += a[i + k] * b[j + k];
    sum1 += a[i + k + 1] * b[j + k + 1];
    sum2 += a[i + k + 2] * b[j + k + 2];
    sum3 += a[i + k + 3] * b[j + k + 3];
  }
  for (; k < n; k += 1) {
    sum0 += a[i + k] * b[j + k];
  }
  return sum0 + sum1 + (sum2 + sum3);
}

// y = x W^T + b: x (T, nIn) -> (T, nOut); weight (nOut, nIn), as PyTorch's nn.Linear stores it.
function linear(x, weight, nIn, bias = null) {
  const T = x.length / nIn;
  const nOut = weight.length / nIn;
  const y = new Float32Array(T * nOut);
  // A row of the weights is read once for all tokens: fetching it takes longer than multiplying.
  for (let out = 0; out < nOut; out += 1) {
    const shift = bias === null ? 0 : bias[out];
    let t = 0;
    for (; t + 3 < T; t += 4) {
      multiplyFourTokens(x, t, weight, out, { nIn, nOut, shift, y });
    }
    for (; t < T; t += 1) {
      y[t * nOut + out] = dotProduct(x, t * nIn, weight, out * nIn, nIn) + shift;
    }
  }
  return y;
}

// One output of `linear` for tokens t to t + 3: each weight is fetched once, not four times.
function multiplyFourTokens(x, t, weight, out, { nIn, nOut, shift, y }) {
  const row = out * nIn;
  const token0 = t * nIn;
  const token1 = token0 + nIn;
  const token2 = token1 + nIn;
  const token3 = token2 + nIn;
  let sum0 = shift;
  let sum1 = shift;
  let sum2 = shift;
  let sum3 = shift;
  for (let i = 0; i < nIn; i += 1) {
    const w = weight[row + i];
    sum0 += w * x[token0 + i];
    sum1 += w * x[token1 + i];
    sum2 += w * x[token2 + i];
    sum3 += w * x[token3 + i];
  }
  y[t * nOut + out] = sum0;
  y[(t + 1) * nOut + out] = sum1;
  y[(t + 2) * nOut + out] = sum2;
  y[(t + 3) * nOut + out] = sum3;
}

// x + y, number by number: what a block computes is added to what it has read.
function add(x, y) {
  return x.map((number, i) => number + y[i]);
}

// The rows of a table that belong to some numbers: table (rows, C) -> (T, C).
function embedding(table, numbers, C) {
  const rows = new Float32Array(numbers.length * C);
  numbers.forEach((number, t) => rows.set(table.subarray(number * C, (number + 1) * C), t * C));
  return rows;
}

// Keys and values of the tokens read so far, for each layer: (S, G * D) each.
class KVCache {
  constructor(nLayers, maxLength) {
    this.maxLength = maxLength;
    this.length = 0; // tokens stored, the same number in every layer
    this.layers = new Array(nLayers).fill(null);
  }

  // Stores a layer's new keys and values, and returns all so far; called for layer 0, 1, 2, ...
  extend(layer, keys, values, T) {
    const width = keys.length / T; // G * D
    const end = this.length + T;
    if (end > this.maxLength) {
      throw new RangeError(`${end} tokens, but this cache was made for ${this.maxLength}`);
    }
    if (this.layers[layer] === null) {
      const size = this.maxLength * width;
      this.layers[layer] = { keys: new Float32Array(size), values: new Float32Array(size) };
    }
    const stored = this.layers[layer];
    stored.keys.set(keys, this.length * width);
    stored.values.set(values, this.length * width);
    if (layer === this.layers.length - 1) {
      this.length = end;
    }
    return stored;
  }
}

/* Softmax(Q K^T / sqrt(D)) V for T queries, which attend to themselves and to what is before them.

   Queries (T, H * D); keys and values (S, G * D). Returns the context (T, H * D) and, for each
   query, its weights (H, keys that it may attend to); those of a head sum to 1. */
function causalAttention(queries, keys, values, { H, G, D, nBefore }) {
  const T = queries.length / (H * D);
  const context = new Float32Array(T * H * D);
  const weights = [];
  for (let t = 0; t < T; t += 1) {
    const S = nBefore + t + 1;
    const weightsOfToken = new Float32Array(H * S);
    for (let head = 0; head < H; head += 1) {
      const group = Math.floor((head * G) / H); // H / G heads of queries share one of keys
      const query = (t * H + head) * D;
      const scores = new Float64Array(S);
      for (let s = 0; s < S; s += 1) {
        scores[s] = dotProduct(queries, query, keys, (s * G + group) * D, D) / Math.sqrt(D);
      }
      const shares = softmax(scores);
      for (let d = 0; d < D; d += 1) {
        let sum = 0;
        for (let s = 0; s < S; s += 1) {
          sum += shares[s] * values[(s * G + group) * D + d];
        }
        context[query + d] = sum;
      }
      weightsOfToken.set(shares, head * S);
    }
    weights.push(weightsOfToken);
  }
  return { context, weights };
}

// exp(x) / sum(exp(x)); the largest is subtracted first, so that exp can't overflow.
function softmax(scores) {
  const largest = largestOf(scores);
  const shares = new Float64Array(scores.length);
  let total = 0;
  for (let i = 0; i < scores.length; i += 1) {
    shares[i] = Math.exp(scores[i] - largest);
    total += shares[i];
  }
  for (let i = 0; i < shares.length; i += 1) {
    shares[i] /= total;
  }
  return shares;
}

// The largest number: a loop, because Math.max takes no array of any length.
function largestOf(numbers) {
  let largest = -Infinity;
  for (let i = 0; i < numbers.length; i += 1) {
    largest = Math.max(largest, numbers[i]);
  }
  return largest;
}

// --- GPT-2 ---------------------------------------------------------------------------------------

// Each token's C numbers with mean 0 and variance 1, then scaled and shifted.
class LayerNorm {
  constructor(weights, name) {
    this.weight = weights.get(`${name}.weight`);
    this.bias = weights.get(`${name}.bias`);
  }

  forward(x) {
    const C = this.weight.length;
    const y = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += C) {
      const row = x.subarray(start, start + C);
      const mean = row.reduce((sum, number) => sum + number, 0) / C;
      const variance = row.reduce((sum, number) => sum + (number - mean) ** 2, 0) / C;
      const scale = 1 / Math.sqrt(variance + 1e-5);
      for (let c = 0; c < C; c += 1) {
        y[start + c] = (row[c] - mean) * scale * this.weight[c] + this.bias[c];
      }
    }
    return y;
  }
}

// A linear layer, with a bias if the model has one.
class Linear {
  constructor(weights, name, nIn) {
    this.nIn = nIn;
    this.weight = weights.get(`${name}.weight`);
    this.bias = weights.get(`${name}.bias`) ?? null;
  }

  forward(x) {
    return linear(x, this.weight, this.nIn, this.bias);
  }
}

// Each token gathers values from itself and the tokens before it.
class MultiHeadAttention {
  constructor(weights, config, layer) {
    const name = `trf_blocks.${layer}.att`;
    this.layer = layer;
    this.H = config.n_heads;
    this.D = config.emb_dim / config.n_heads;
    this.W_query = new Linear(weights, `${name}.W_query`, config.emb_dim);
    this.W_key = new Linear(weights, `${name}.W_key`, config.emb_dim);
    this.W_value = new Linear(weights, `${name}.W_value`, config.emb_dim);
    this.out_proj = new Linear(weights, `${name}.out_proj`, config.emb_dim);
  }

  forward(x, cache) {
    const { H, D } = this;
    const T = x.length / (H * D);
    const nBefore = cache.length; // before `extend`, which changes it in the last layer
    const queries = this.W_query.forward(x); // (T, C), which is (T, H, D)
    const newKeys = this.W_key.forward(x);
    const newValues = this.W_value.forward(x);
    const { keys, values } = cache.extend(this.layer, newKeys, newValues, T); // (S, H, D)
    const { context, weights } = causalAttention(queries, keys, values, { H, G: H, D, nBefore });
    return { x: this.out_proj.forward(context), weights };
  }
}

// GELU in the form that GPT-2 was trained with (Hendrycks & Gimpel 2016).
function gelu(x) {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

// Two linear layers with a GELU between them, applied to each token separately.
class FeedForward {
  constructor(weights, config, layer) {
    const name = `trf_blocks.${layer}.ff.layers`;
    this.first = new Linear(weights, `${name}.0`, config.emb_dim);
    this.second = new Linear(weights, `${name}.2`, 4 * config.emb_dim);
  }

  forward(x) {
    return this.second.forward(this.first.forward(x).map(gelu)); // (T, C) -> (T, 4C) -> (T, C)
  }
}

// Attention, then feed-forward; each reads a normalised copy of x and adds its result to x.
class TransformerBlock {
  constructor(weights, config, layer) {
    this.norm1 = new LayerNorm(weights, `trf_blocks.${layer}.norm1`);
    this.att = new MultiHeadAttention(weights, config, layer);
    this.norm2 = new LayerNorm(weights, `trf_blocks.${layer}.norm2`);
    this.ff = new FeedForward(weights, config, layer);
  }

  forward(x, cache) {
    const attended = this.att.forward(this.norm1.forward(x), cache);
    const gathered = add(x, attended.x);
    const result = add(gathered, this.ff.forward(this.norm2.forward(gathered)));
    return { x: result, weights: attended.weights };
  }
}

// What both models do with embeddings (T, C): one block after the other, then the last norm.
function throughBlocks(model, embeddings, cache) {
  let x = embeddings;
  const attention = [];
  for (const block of model.trf_blocks) {
    const read = block.forward(x, cache);
    x = read.x;
    attention.push(read.weights);
  }
  return { hidden: model.final_norm.forward(x), attention };
}

/* GPT-2, from token ids to what it knows after each of them.

   `config` has the values of a GPTConfig; `weights` is a Map of tensors by their names in Python. */
class GPTModel {
  constructor(config, weights) {
    this.config = config;
    this.tok_emb = weights.get("tok_emb.weight"); // (V, C)
    this.pos_emb = weights.get("pos_emb.weight"); // (positions, C)
    this.trf_blocks = Array.from(
      { length: config.n_layers },
      (_, layer) => new TransformerBlock(weights, config, layer),
    );
    this.final_norm = new LayerNorm(weights, "final_norm");
    // If the head is tied, it is the same matrix as the token embedding.
    this.out_head = weights.get("out_head.weight") ?? this.tok_emb;
  }

  newCache(maxLength) {
    return new KVCache(this.config.n_layers, maxLength);
  }

  /* Reads tokens, after those that the cache holds. Returns the last hidden state of each, (T, C),
     and for each layer and token its attention weights, (H, keys). */
  forward(tokenIds, cache) {
    const C = this.config.emb_dim;
    const positions = tokenIds.map((_, t) => cache.length + t);
    const x = add(embedding(this.tok_emb, tokenIds, C), embedding(this.pos_emb, positions, C));
    return throughBlocks(this, x, cache);
  }

  // The next-token logits after some hidden states: (T, C) -> (T, V).
  logits(hidden) {
    return linear(hidden, this.out_head, this.config.emb_dim);
  }
}
