"use strict";

// Line charts as SVG. A series is {name, mark, points: [[x, y], ...]}; its name is also its class.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 8, right: 12, bottom: 34, left: 52 };

// A new element of SVG with attributes, within a parent.
function draw(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  if (text !== undefined) {
    element.textContent = text;
  }
  parent.append(element);
  return element;
}

// Round numbers from low to high, about `wanted` of them: 0, 0.5, 1, ...
function linearTicks(low, high, wanted) {
  const raw = (high - low || Math.abs(high) || 1) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
    ticks.push(n * step);
  }
  return ticks;
}

// Numbers between low and high that a logarithmic axis names: 0.1, 0.2, 0.5, 1, ...
function logTicks(low, high) {
  const ticks = [];
  const factors = high / low > 1e4 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    ticks.push(...factors.map((factor) => factor * 10 ** power));
  }
  const shown = ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  return shown.length > 1 ? shown : [low, high];
}

// A number as an axis names it.
function tickText(number) {
  if (number !== 0 && (Math.abs(number) < 0.001 || Math.abs(number) >= 1e6)) {
    return number.toExponential(0).replace("e+", "e");
  }
  return Number(number.toPrecision(3)).toLocaleString("en");
}

// The lowest and the highest of some numbers, never equal.
function extent(numbers) {
  const low = numbers.reduce((a, b) => Math.min(a, b));
  const high = numbers.reduce((a, b) => Math.max(a, b));
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

// A function from numbers between low and high to pixels between start and end.
function scale([low, high], [start, end], isLog) {
  const place = isLog ? Math.log : (number) => number;
  const share = (number) => (place(number) - place(low)) / (place(high) - place(low));
  return (number) => start + share(number) * (end - start);
}

// The range of the vertical axis: from 0, or on a logarithmic axis from the lowest value, above 0.
function verticalRange(values, isLog) {
  if (!isLog) {
    const low = Math.min(0, values.reduce((a, b) => Math.min(a, b)));
    const high = Math.max(0, values.reduce((a, b) => Math.max(a, b)));
    return low === high ? [0, 1] : [low, high];
  }
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  return low === high ? [low / 2, low * 2] : [low, high];
}

// Draw series into an <svg> of any size; returns the function from steps to pixels, or null.
function drawChart(svg, series, isLog) {
  svg.replaceChildren();
  const points = series.flatMap((one) => one.points);
  if (points.length === 0) {
    return null;
  }
  const width = svg.clientWidth;
  const height = svg.clientHeight;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const xRange = extent(points.map(([x]) => x));
  xRange[0] = Math.max(0, xRange[0]);
  const yRange = verticalRange(points.map(([, y]) => y), isLog);
  const x = scale(xRange, [MARGIN.left, width - MARGIN.right], false);
  const y = scale(yRange, [height - MARGIN.bottom, MARGIN.top], isLog);
  drawAxes(svg, { x, y, xRange, yRange, isLog, width, height });
  for (const one of series) {
    drawSeries(svg, one, x, y);
  }
  return x;
}

// Lines across and their numbers, the steps below.
function drawAxes(svg, { x, y, xRange, yRange, isLog, width, height }) {
  const rows = height > 200 ? 5 : 2;
  const ticks = isLog ? logTicks(...yRange) : linearTicks(...yRange, rows);
  let lastPlace = Infinity;
  for (const tick of ticks) {
    const place = y(tick);
    if (lastPlace - place < 14) {
      continue; // the numbers would overlap
    }
    lastPlace = place;
    draw(svg, "line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: place, y2: place });
    const where = { x: MARGIN.left - 8, y: place + 4, "text-anchor": "end" };
    draw(svg, "text", where, tickText(tick));
  }
  const columns = Math.max(2, Math.floor(width / 110));
  for (const tick of linearTicks(...xRange, columns).filter(Number.isInteger)) {
    const where = { x: x(tick), y: height - MARGIN.bottom + 18, "text-anchor": "middle" };
    draw(svg, "text", where, tickText(tick));
  }
  const where = { x: width - MARGIN.right, y: height, "text-anchor": "end" };
  draw(svg, "text", where, "step");
}

// One line with a mark at each point: a circle, or a square.
function drawSeries(svg, { name, mark, points }, x, y) {
  const group = draw(svg, "g", { class: name });
  const corners = points.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`);
  draw(group, "path", { d: `M${corners.join("L")}` });
  const size = points.length > 120 ? 1.5 : 3;
  for (const [step, value] of points) {
    if (mark === "square") {
      const corner = { x: x(step) - size, y: y(value) - size };
      draw(group, "rect", { class: "point", ...corner, width: 2 * size, height: 2 * size });
    } else {
      draw(group, "circle", { class: "point", cx: x(step), cy: y(value), r: size });
    }
  }
}
