"use strict";

/* Weights as text: base64 -> bytes -> numbers.

   The one idea: a float16 has 1 bit for the sign, 5 for the exponent and 10 for the fraction, so
   there are only 65,536 of them, and a table of all of them decodes a weight with one look-up.
   Rounding to float16 changes a weight by at most half a step, the distance to the next float16. A
   further byte may say how far, in 256ths of a step; the weight is then as good as its float32. */

// The bytes that a base64 text stands for.
function bytesFromBase64(text) {
  if (typeof Uint8Array.fromBase64 === "function") {
    return Uint8Array.fromBase64(text);
  }
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i += 1) {
    bytes[i] = letters.charCodeAt(i);
  }
  return bytes;
}

// The distance between neighbouring float16 numbers, by exponent: twice as far with each.
function float16Steps() {
  return Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));
}

// The number that 16 bits stand for (IEEE 754-2019, section 3.4).
function float16Value(bits, steps) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) {
    return fraction === 0 ? sign * Infinity : NaN;
  }
  const whole = exponent === 0 ? fraction : 1024 + fraction;
  return sign * whole * steps[exponent];
}

// All 65,536 float16 numbers, by their bits.
function float16Table() {
  const steps = float16Steps();
  return Float32Array.from({ length: 2 ** 16 }, (_, bits) => float16Value(bits, steps));
}

/* Float16 numbers as a Float32Array. `halves` are their bytes, the low byte first; `remainders`, if
   given, hold one byte for each number: what was rounded away, from -128 to 127. */
function numbersFromFloat16(halves, remainders = null) {
  const bits = new Uint16Array(halves.buffer, halves.byteOffset, halves.length / 2);
  const table = float16Table();
  const numbers = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i += 1) {
    numbers[i] = table[bits[i]]; // a loop takes a twentieth of the time of Float32Array.from
  }
  if (remainders !== null) {
    const parts = float16Steps().map((step) => step / 256);
    const signed = new Int8Array(remainders.buffer, remainders.byteOffset, remainders.length);
    for (let i = 0; i < bits.length; i += 1) {
      numbers[i] += signed[i] * parts[(bits[i] >> 10) & 31];
    }
  }
  return numbers;
}

/* Named tensors: `layout` is a list of {name, shape}, and `numbers` holds them one after another.
   Each tensor is a part of `numbers`, row after row, not a copy. */
function tensorsFromNumbers(layout, numbers) {
  const tensors = new Map();
  let start = 0;
  for (const { name, shape } of layout) {
    const size = shape.reduce((product, length) => product * length, 1);
    tensors.set(name, numbers.subarray(start, start + size));
    start += size;
  }
  return tensors;
}
