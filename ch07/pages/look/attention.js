"use strict";

/* Pictures of attention: `attention[layer][token]` holds the weights (H, keys) of a token.

   A colour is as strong as the square root of the weight: 4 % of the attention, which is much among
   50 tokens, would else be hard to see. */

const THUMBNAIL = 64; // pixels of a small map at most
const MIN_ARC = 0.02; // a smaller share of attention gets no line

// The weight that a token's head gives to a key.
function attentionWeight(attention, layer, head, token, key) {
  const weights = attention[layer][token];
  return weights[head * (token + 1) + key];
}

// The weights of a token's head, one for each key.
function attentionRow(attention, layer, head, token) {
  const n = token + 1;
  return attention[layer][token].subarray(head * n, (head + 1) * n);
}

// How strong the colour of a weight is, from 0 to 1.
function colourShare(weight) {
  return Math.sqrt(weight);
}

// The place of the largest number.
function largestPlace(numbers) {
  return numbers.reduce((best, number, i) => (number > numbers[best] ? i : best), 0);
}

// The [red, green, blue] of a colour "#rrggbb", such as base.css has.
function colourParts(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16));
}

/* Draws a head as a square: queries down, keys across, the more attention the stronger the colour.
   A text of more tokens than `maxSize` is drawn smaller; a pixel shows the largest weight in it. */
function drawHead(canvas, attention, layer, head, maxSize = Infinity) {
  const T = attention[layer].length;
  const size = Math.min(T, maxSize);
  const largest = new Float32Array(size * size);
  for (let token = 0; token < T; token += 1) {
    const row = Math.floor((token * size) / T);
    attentionRow(attention, layer, head, token).forEach((weight, key) => {
      const place = row * size + Math.floor((key * size) / T);
      largest[place] = Math.max(largest[place], weight);
    });
  }
  const ground = colourParts("--raised");
  const accent = colourParts("--accent");
  canvas.width = size;
  canvas.height = size;
  const drawing = canvas.getContext("2d");
  const image = drawing.createImageData(size, size);
  largest.forEach((weight, place) => {
    ground.forEach((part, i) => {
      image.data[4 * place + i] = part + (accent[i] - part) * colourShare(weight);
    });
    image.data[4 * place + 3] = 255;
  });
  drawing.putImageData(image, 0, 0);
}

// Lines from the selected token of a strip to those that it attends to, the thicker the more.
function drawArcs(svg, items, row, selected) {
  svg.replaceChildren();
  const frame = svg.getBoundingClientRect();
  const from = centreOf(items[selected], frame);
  row.forEach((weight, key) => {
    if (weight < MIN_ARC || key === selected) {
      return;
    }
    const to = centreOf(items[key], frame);
    const height = Math.min(28, 10 + Math.abs(from.x - to.x) / 12);
    const top = Math.min(from.top, to.top) - height;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute(
      "d",
      `M ${from.x} ${from.top} C ${from.x} ${top} ${to.x} ${top} ${to.x} ${to.top}`,
    );
    path.setAttribute("stroke-width", String(1 + 4 * weight));
    path.setAttribute("stroke-opacity", String(0.25 + 0.6 * weight));
    svg.append(path);
  });
}

// The middle and the upper edge of an element, within a frame.
function centreOf(element, frame) {
  const box = element.getBoundingClientRect();
  return { x: box.left + box.width / 2 - frame.left, top: box.top - frame.top };
}
