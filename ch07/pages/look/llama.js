"use strict";

/* Llama by hand, once more: `ch07/models/llama.py` in plain JavaScript. It holds what differs from
   `gpt.js`: RMSNorm, rotary positions, SwiGLU, and several heads of queries for one head of keys.

   Axes: those of `gpt.js`. */

// Each token's C numbers divided by their root mean square, then scaled.
class RMSNorm {
  constructor(weights, name, eps) {
    this.weight = weights.get(`${name}.weight`);
    this.eps = eps;
  }

  forward(x) {
    const C = this.weight.length;
    const y = new Float32Array(x.length);
    for (let start = 0; start < x.length; start += C) {
      const row = x.subarray(start, start + C);
      const meanSquare = row.reduce((sum, number) => sum + number ** 2, 0) / C;
      const scale = 1 / Math.sqrt(meanSquare + this.eps);
      for (let c = 0; c < C; c += 1) {
        y[start + c] = row[c] * scale * this.weight[c];
      }
    }
    return y;
  }
}

// The angle of each pair of numbers at a position: (D / 2,), in radians.
function rotationAngles(position, D, theta) {
  // Rounded to float32 where Python rounds: at late positions the angles would differ otherwise.
  return Float32Array.from({ length: D / 2 }, (_, i) => {
    const exponent = Math.fround((2 * i) / D);
    const perToken = Math.fround(1 / Math.fround(theta ** exponent));
    return position * perToken;
  });
}

// Rotates queries or keys (T, heads * D) in place: pair i is numbers i and i + D / 2 of a head.
function rotate(x, T, D, nBefore, theta) {
  const nHeads = x.length / (T * D);
  for (let t = 0; t < T; t += 1) {
    const angles = rotationAngles(nBefore + t, D, theta);
    for (let head = 0; head < nHeads; head += 1) {
      const start = (t * nHeads + head) * D;
      angles.forEach((angle, i) => {
        const first = x[start + i];
        const second = x[start + i + D / 2];
        x[start + i] = first * Math.cos(angle) - second * Math.sin(angle);
        x[start + i + D / 2] = second * Math.cos(angle) + first * Math.sin(angle);
      });
    }
  }
  return x;
}

// Causal self-attention in which H / G heads of queries share a head of keys and values.
class GroupedQueryAttention {
  constructor(weights, config, layer) {
    const name = `trf_blocks.${layer}.att`;
    this.layer = layer;
    this.H = config.n_heads;
    this.G = config.n_kv_heads;
    this.D = config.emb_dim / config.n_heads;
    this.theta = config.rope_theta;
    this.W_query = new Linear(weights, `${name}.W_query`, config.emb_dim);
    this.W_key = new Linear(weights, `${name}.W_key`, config.emb_dim);
    this.W_value = new Linear(weights, `${name}.W_value`, config.emb_dim);
    this.out_proj = new Linear(weights, `${name}.out_proj`, config.emb_dim);
  }

  forward(x, cache) {
    const { H, G, D } = this;
    const T = x.length / (H * D);
    const nBefore = cache.length;
    const queries = rotate(this.W_query.forward(x), T, D, nBefore, this.theta); // (T, H * D)
    const newKeys = rotate(this.W_key.forward(x), T, D, nBefore, this.theta); // (T, G * D)
    const newValues = this.W_value.forward(x); // (T, G * D): not rotated
    const { keys, values } = cache.extend(this.layer, newKeys, newValues, T); // (S, G * D)
    const { context, weights } = causalAttention(queries, keys, values, { H, G, D, nBefore });
    return { x: this.out_proj.forward(context), weights };
  }
}

// x * sigmoid(x), also called swish.
function silu(x) {
  return x / (1 + Math.exp(-x));
}

// Feed-forward with a gate: down(silu(gate(x)) * up(x)), applied to each token separately.
class SwiGLU {
  constructor(weights, config, layer) {
    const name = `trf_blocks.${layer}.ff`;
    this.gate = new Linear(weights, `${name}.gate`, config.emb_dim);
    this.up = new Linear(weights, `${name}.up`, config.emb_dim);
    this.down = new Linear(weights, `${name}.down`, config.hidden_dim);
  }

  forward(x) {
    const up = this.up.forward(x); // (T, hidden)
    return this.down.forward(this.gate.forward(x).map((number, i) => silu(number) * up[i]));
  }
}

// Attention, then feed-forward; each reads a normalised copy of x and adds its result to x.
class LlamaBlock {
  constructor(weights, config, layer) {
    this.norm1 = new RMSNorm(weights, `trf_blocks.${layer}.norm1`, config.norm_eps);
    this.att = new GroupedQueryAttention(weights, config, layer);
    this.norm2 = new RMSNorm(weights, `trf_blocks.${layer}.norm2`, config.norm_eps);
    this.ff = new SwiGLU(weights, config, layer);
  }

  forward(x, cache) {
    const attended = this.att.forward(this.norm1.forward(x), cache);
    const gathered = add(x, attended.x);
    const result = add(gathered, this.ff.forward(this.norm2.forward(gathered)));
    return { x: result, weights: attended.weights };
  }
}

// Llama, from token ids to what it knows after each of them; called as `GPTModel` is.
class LlamaModel {
  constructor(config, weights) {
    this.config = config;
    this.tok_emb = weights.get("tok_emb.weight"); // (V, C)
    this.trf_blocks = Array.from(
      { length: config.n_layers },
      (_, layer) => new LlamaBlock(weights, config, layer),
    );
    this.final_norm = new RMSNorm(weights, "final_norm", config.norm_eps);
    this.out_head = weights.get("out_head.weight") ?? this.tok_emb;
  }

  newCache(maxLength) {
    return new KVCache(this.config.n_layers, maxLength);
  }

  forward(tokenIds, cache) {
    const x = embedding(this.tok_emb, tokenIds, this.config.emb_dim);
    return throughBlocks(this, x, cache);
  }

  logits(hidden) {
    return linear(hidden, this.out_head, this.config.emb_dim);
  }
}
