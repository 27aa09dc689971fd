"use strict";

// Fills the page from the run's data, which Python wrote into it.

const run = JSON.parse(byId("run").textContent);
const STATES = {
  training: "training",
  finished: "finished",
  stopped: "interrupted",
  failed: "ended by an error",
};

// A loss with as many digits as the terminal shows.
function lossText(loss) {
  return loss === null ? "–" : loss.toFixed(3);
}

// A learning rate, or another number of any size.
function numberText(number) {
  if (number === null) {
    return "–";
  }
  const isTiny = number !== 0 && Math.abs(number) < 1e-4;
  return isTiny ? number.toExponential(1) : String(Number(number.toPrecision(3)));
}

// A whole number with commas.
function wholeText(number) {
  return number === null ? "–" : Math.round(number).toLocaleString("en");
}

// The header: name, state, progress, and what there is to know about it.
function fillHeader() {
  const last = run.records[run.records.length - 1];
  byId("name").textContent = run.name;
  document.title = `${run.name}: ${STATES[run.state]}`;
  byId("state").textContent = STATES[run.state];
  byId("state").classList.add(run.state);
  byId("progress").max = run.steps;
  byId("progress").value = last ? last.step : 0;
  const facts = [`step ${last ? wholeText(last.step) : 0} of ${wholeText(run.steps)}`];
  if (last) {
    facts.push(`training loss ${lossText(last.train_loss)}`);
  }
  if (last && last.val_loss !== null) {
    facts.push(`validation loss ${lossText(last.val_loss)}`);
  }
  if (run.state === "training" && run.secondsLeft) {
    facts.push(`about ${durationText(run.secondsLeft)} left`);
  } else if (last) {
    facts.push(`${durationText(last.seconds)} of training`);
  }
  byId("facts").replaceChildren(...facts.map((fact) => element("span", "", fact)));
  fillNote();
}

// How to resume a run, or what ended it; and whether the page goes on loading itself.
function fillNote() {
  byId("refresh").hidden = run.state !== "training";
  byId("note").hidden = run.note === "";
  if (run.state === "stopped") {
    byId("note").replaceChildren("Resume it with ", element("code", "", run.note));
  } else {
    byId("note").textContent = run.note;
  }
}

// The points of a field of the records, where it has a number.
function pointsOf(field) {
  return run.records.filter((record) => record[field] !== null && record[field] !== undefined)
    .map((record) => [record.step, record[field]]);
}

// What a chart shows, for a reader who doesn't see it.
function describe(svg, what, points) {
  if (points.length > 0) {
    const first = numberText(points[0][1]);
    const last = numberText(points[points.length - 1][1]);
    svg.setAttribute("aria-label", `${what}, from ${first} to ${last}`);
  } else {
    svg.setAttribute("aria-label", `${what}: no evaluation yet`);
  }
}

// The three charts, at the size that they have now.
function drawCharts() {
  const training = pointsOf("train_loss");
  const validation = pointsOf("val_loss");
  const losses = [
    { name: "training", mark: "circle", points: training },
    { name: "validation", mark: "square", points: validation },
  ].filter((series) => series.points.length > 0);
  const isPositive = [...training, ...validation].every(([, loss]) => loss > 0);
  byId("log").disabled = !isPositive;
  const x = drawChart(byId("loss"), losses, byId("log").checked && isPositive);
  describe(byId("loss"), "Training loss", training);
  drawSmall("lr", "Learning rate");
  drawSmall("speed", "Tokens per second");
  byId("speed-part").hidden = run.records.length > 1 && pointsOf("speed").length === 0;
  return x;
}

// A small chart of one field.
function drawSmall(id, what) {
  const points = pointsOf(id);
  drawChart(byId(id), points.length ? [{ name: "training", mark: "circle", points }] : [], false);
  describe(byId(id), what, points);
}

// The values at the evaluation that is nearest to the pointer.
function readAt(event, x) {
  const box = byId("loss").getBoundingClientRect();
  const distance = (record) => Math.abs(x(record.step) - (event.clientX - box.left));
  const nearest = run.records.reduce((a, b) => (distance(b) < distance(a) ? b : a));
  byId("loss").querySelectorAll(".pointer").forEach((line) => line.remove());
  const place = x(nearest.step);
  const ends = { y1: MARGIN.top, y2: box.height - MARGIN.bottom };
  draw(byId("loss"), "line", { class: "pointer", x1: place, x2: place, ...ends });
  byId("readout").textContent = `step ${wholeText(nearest.step)}: training `
    + `${lossText(nearest.train_loss)}, validation ${lossText(nearest.val_loss)}`;
}

// The same numbers as a table.
function fillTable() {
  const rows = run.records.map((record) => {
    const row = document.createElement("tr");
    row.append(
      element("td", "", wholeText(record.step)),
      element("td", "", record.epoch.toFixed(2)),
      element("td", "", lossText(record.train_loss)),
      element("td", "", lossText(record.val_loss)),
      element("td", "", numberText(record.lr)),
      element("td", "", wholeText(record.speed)),
    );
    return row;
  });
  byId("rows").replaceChildren(...rows.reverse());
}

// An answer with the words marked that the answer before did not have.
function answerElement(sample, before) {
  const answer = element("span", "answer");
  answer.dir = "auto";
  if (sample.answer.trim() === "") {
    answer.append(element("span", "quiet", "[an empty answer]"));
    return answer;
  }
  const pieces = before ? markedPieces(before.answer, sample.answer) : [[sample.answer.replace(/\n/g, "↵"), false]];
  for (const [text, isNew] of pieces) {
    answer.append(isNew ? element("mark", "", text) : text);
  }
  return answer;
}

// The question, and its answers from the newest to the oldest.
function fillAnswers() {
  byId("answers").hidden = run.samples.length === 0;
  if (run.samples.length === 0) {
    return;
  }
  byId("question").textContent = run.samples[0].question;
  byId("right").textContent = run.samples[0].right;
  const items = run.samples.map((sample, i) => {
    const item = document.createElement("li");
    item.append(
      element("span", "step", `step ${wholeText(sample.step)}`),
      answerElement(sample, run.samples[i - 1]),
      element("span", "right", sample.isRight ? "right" : ""),
    );
    return item;
  });
  byId("samples").replaceChildren(...items.reverse());
  byId("older").hidden = run.olderSamples === 0;
  byId("older").textContent = `${wholeText(run.olderSamples)} older answers are in samples.jsonl.`;
}

// Each setting with its value.
function fillSettings() {
  const items = Object.entries(run.settings).map(([flag, value]) => {
    const item = document.createElement("div");
    const term = document.createElement("dt");
    term.append(element("code", "", flag));
    item.append(term, element("dd", "", Array.isArray(value) ? value.join(", ") : String(value)));
    return item;
  });
  byId("options").replaceChildren(...items);
}

// Draw everything, then follow the run if it still trains.
function start() {
  let chosenAxis = history.state === null ? null : history.state.log;
  byId("log").checked = chosenAxis === null ? run.logarithmic : chosenAxis;
  byId("waiting").hidden = run.records.length > 0;
  byId("losses").hidden = run.records.length === 0;
  fillHeader();
  fillTable();
  fillAnswers();
  fillSettings();
  let x = drawCharts();
  const redraw = () => {
    x = drawCharts();
  };
  byId("log").addEventListener("change", () => {
    chosenAxis = byId("log").checked;
    redraw();
  });
  window.addEventListener("resize", redraw);
  byId("loss").addEventListener("pointermove", (event) => x && readAt(event, x));
  if (run.state === "training") {
    follow(run, () => {
      remember(chosenAxis);
      window.location.reload();
    });
  }
  restore(); // last, when every line above the reader's place is there
}

start();
