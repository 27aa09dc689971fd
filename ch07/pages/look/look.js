"use strict";

/* The page: questions, prompt and answer, tokens and their losses, next tokens, attention.

   The one idea: a "view" is one text that has been read, and everything below the answer shows it.
   Whoever edits the text gets a new view a moment later. */

const PAUSE = 250; // milliseconds without a key before an edited text is read
const MAX_NEW_TOKENS = 256; // of a generated answer
const MAX_LISTED = 300; // questions that the list shows
const SURPRISE = 6; // nats of loss with the deepest shade
const STOPPED = {
  end: "the answer is complete",
  length: `stopped at ${MAX_NEW_TOKENS} tokens`,
  context: "the context is full",
  reader: "stopped by you",
};

const byId = (id) => document.getElementById(id);

// A block of data in the page; null if it has none of that name.
function dataBlock(name) {
  const block = byId(name);
  return block === null ? null : JSON.parse(block.textContent);
}

// An element with a text and a class.
function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className !== "") {
    made.className = className;
  }
  return made;
}

// A share as a percentage of fitting precision.
function percent(share) {
  const value = 100 * share;
  if (value < 0.01) {
    return value === 0 ? "0 %" : "< 0.01 %";
  }
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} %`;
}

// A number with its noun: "1 token", "2 tokens".
function count(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

function mean(numbers) {
  return numbers.reduce((a, b) => a + b, 0) / numbers.length;
}

class LookPage {
  constructor() {
    this.facts = dataBlock("look");
    this.isComputed = this.facts.isComputed;
    this.end = this.facts.tokenizer.end;
    this.question = null; // number of the chosen question, as long as its prompt is not edited
    this.answerIds = null; // of a generated answer; null: the answer's text is tokenized
    this.readings = 0; // how many were asked for: an answer that comes late is dropped
    this.generations = 0; // the same for generated answers
    this.view = null;
    this.selected = 0;
    this.layer = 0;
    this.head = 0;
    this.timer = null;
  }

  async start() {
    this.showFacts();
    this.connectControls();
    this.showQuestions();
    if (this.isComputed) {
      this.openReadings();
    } else {
      await this.openModel();
    }
    if (this.facts.questions.length > 0) {
      this.chooseQuestion(0);
    } else {
      this.startEmpty();
    }
  }

  // --- where answers come from ---

  openReadings() {
    const data = dataBlock("readings");
    this.model = new StoredReadings(data, this.facts.layers, this.facts.heads);
    this.piece = (id) => data.pieces[id];
    this.setStatus("");
    byId("notice").hidden = false;
    byId("notice").textContent =
      "This page holds answers that were computed when it was made, and not the model, so prompts " +
      "can’t be edited here. To try others, use python -m ch07 chat, or make a page of a smaller model.";
    for (const field of ["instruction", "input", "whole", "answer"]) {
      byId(field).readOnly = true;
    }
    for (const button of ["generate", "one-token", "stop"]) {
      byId(button).hidden = true;
    }
  }

  async openModel() {
    const { vocabulary } = this.facts.tokenizer;
    this.tokenizer = makeTokenizer(dataBlock("merges"), vocabulary);
    this.piece = (id) => this.tokenizer.piece(id);
    this.model = openModel();
    const start = performance.now();
    const { seconds } = await this.model.ask("open", { data: dataBlock("model") });
    byId("model").remove(); // the text of the weights is no longer needed
    this.loadSeconds = (performance.now() - start) / 1000;
    this.setStatus(`The model is ready: decoded in ${seconds.toFixed(1)} seconds.`);
  }

  // --- the head of the page, and its questions ---

  showFacts() {
    const { name, parameters, layers, heads, questions, held_out: heldOut } = this.facts;
    byId("run-name").textContent = name;
    document.title = `Look inside ${name}`;
    const nRight = questions.filter((question) => question.isRight).length;
    const model = `${count(parameters, "parameter")}, ${count(layers, "layer")} of ${count(heads, "head")}`;
    const shown = questions.length < heldOut ? "answers shown here" : "held-out answers";
    const of = questions.length < heldOut ? ` (of ${heldOut.toLocaleString("en")})` : "";
    const answers =
      questions.length === 0
        ? "no held-out answers"
        : `${nRight} of the ${questions.length.toLocaleString("en")} ${shown}${of} are right`;
    byId("run-facts").textContent = `${model}; ${answers}.`;
    byId("questions").hidden = questions.length === 0;
    document.body.classList.toggle("no-questions", questions.length === 0);
  }

  showQuestions() {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = document.querySelector("[name=shown]:checked").value;
    const fits = (question) => {
      const text = `${question.instruction} ${question.input} ${question.output} ${question.answer} ${question.family ?? ""}`;
      const isShown = shown === "all" || question.isRight === (shown === "right");
      return isShown && words.every((word) => text.toLowerCase().includes(word));
    };
    const found = this.facts.questions.map((_, i) => i).filter((i) => fits(this.facts.questions[i]));
    this.listed = found.slice(0, MAX_LISTED);
    const more = found.length > MAX_LISTED ? `, the first ${MAX_LISTED} shown: search for fewer` : "";
    byId("found").textContent = `${count(found.length, "question")}${more}`;
    byId("question-list").replaceChildren(...this.listed.map((i) => this.questionItem(i)));
    this.markQuestion();
  }

  questionItem(i) {
    const { instruction, input, answer, output, isRight } = this.facts.questions[i];
    const item = element("li");
    item.setAttribute("role", "option");
    const sign = element("span", isRight ? "✓" : "✗", isRight ? "sign good" : "sign bad");
    const question = element("span", [instruction, input].filter(Boolean).join(" | "), "asked");
    const told = isRight ? answer : `${answer} (right: ${output})`;
    item.append(sign, element("span", isRight ? "right: " : "wrong: ", "spoken"), question);
    item.append(" ", element("span", told, "told"));
    return item;
  }

  markQuestion() {
    const number = this.listed.indexOf(this.question);
    this.markInQuestions(number < 0 ? null : number);
  }

  chooseQuestion(i) {
    this.stopGenerating();
    const { instruction, input, answer, prompt } = this.facts.questions[i];
    this.question = i;
    this.answerIds = null;
    byId("instruction").value = instruction;
    byId("input").value = input;
    byId("answer").value = answer;
    // Of a conversation, the fields would show the last question alone.
    document.querySelector("[name=mode][value=question]").disabled = prompt !== undefined;
    this.setMode(prompt === undefined ? "question" : "whole");
    byId("whole").value = prompt ?? "";
    this.shownAnswer = "answer";
    this.markQuestion();
    this.read();
  }

  // A run without held-out answers: a text to begin with.
  startEmpty() {
    this.setMode(this.facts.isTextRun ? "whole" : "question");
    byId("instruction").value = "Name a colour.";
    byId("whole").value = "Once upon a time";
    this.read();
  }

  // --- prompt and answer ---

  connectControls() {
    byId("search").addEventListener("input", () => this.showQuestions());
    document
      .querySelectorAll("[name=shown]")
      .forEach((choice) => choice.addEventListener("change", () => this.showQuestions()));
    document
      .querySelectorAll("[name=mode]")
      .forEach((choice) => choice.addEventListener("change", () => this.changeMode(choice.value)));
    for (const id of ["instruction", "input", "whole"]) {
      byId(id).addEventListener("input", () => this.promptEdited());
    }
    byId("answer").addEventListener("input", () => this.answerEdited());
    byId("generate").addEventListener("click", () => this.generate("", MAX_NEW_TOKENS));
    byId("one-token").addEventListener("click", () => this.generate(byId("answer").value, 1));
    byId("stop").addEventListener("click", () => this.model.ask("stop"));
    byId("model-answer").addEventListener("click", () => this.showAnswer("answer"));
    byId("right-answer").addEventListener("click", () => this.showAnswer("output"));
    byId("temperature").addEventListener("input", () => this.showNext());
    byId("layer").addEventListener("change", (event) => this.chooseHead(+event.target.value, this.head));
    byId("head").addEventListener("change", (event) => this.chooseHead(this.layer, +event.target.value));
    this.markInQuestions = makeListbox(byId("question-list"), (i) => this.chooseQuestion(this.listed[i]));
    this.markInTokens = makeListbox(byId("tokens"), (i) => this.selectToken(i));
    this.markInHeads = makeListbox(
      byId("heads"),
      (i) => this.chooseHead(Math.floor(i / this.facts.heads), i % this.facts.heads),
      () => this.facts.heads,
    );
    this.fillSelectors();
    this.connectPictures();
  }

  mode() {
    return document.querySelector("[name=mode]:checked").value;
  }

  setMode(mode) {
    document.querySelector(`[name=mode][value=${mode}]`).checked = true;
    byId("question-fields").hidden = mode === "whole";
    byId("as-read").hidden = mode === "whole";
    byId("whole-field").hidden = mode === "question";
  }

  // From the question to the whole prompt: the same text, now free to edit.
  changeMode(mode) {
    this.stopGenerating();
    if (mode === "whole") {
      byId("whole").value = this.questionText();
    }
    this.setMode(mode);
    this.read();
  }

  questionText() {
    return this.questionParts().map(({ text }) => text).join("");
  }

  questionParts() {
    return promptParts(this.facts.style, byId("instruction").value, byId("input").value);
  }

  // The ids of the prompt: those of Python for a conversation that was not edited.
  promptIds() {
    const stored = this.facts.questions[this.question]?.ids;
    if (stored !== undefined && this.mode() === "whole") {
      return stored;
    }
    const { marks } = this.facts.tokenizer;
    if (this.mode() === "question") {
      return encodeParts(this.questionParts(), this.tokenizer, marks);
    }
    const used = marksOfStyle(this.facts.style, marks);
    return encodeParts(partsOfWholePrompt(byId("whole").value), this.tokenizer, used);
  }

  promptEdited() {
    this.question = null;
    this.markQuestion();
    this.readSoon();
  }

  answerEdited() {
    this.answerIds = null;
    this.shownAnswer = null;
    this.readSoon();
  }

  showAnswer(kind) {
    this.answerIds = null;
    this.shownAnswer = kind;
    byId("answer").value = this.facts.questions[this.question][kind];
    this.read();
  }

  // Says whether the answer is that of the run, and right.
  showVerdict() {
    const question = this.facts.questions[this.question];
    const isKnown = question !== undefined;
    byId("model-answer").disabled = !isKnown;
    byId("right-answer").disabled = !isKnown;
    const line = byId("verdict");
    line.className = "";
    line.textContent = "";
    if (!isKnown) {
      return;
    }
    // the rule of the run's scores, `exact_match` in ch07/evaluation/metrics.py
    const sameForm = (text) => stripped(text).normalize("NFC");
    const isRight = sameForm(byId("answer").value) === sameForm(question.output);
    line.className = isRight ? "good" : "bad";
    line.textContent = isRight ? "✓ The right answer." : `✗ The right answer: ${question.output}`;
  }

  setStatus(text) {
    byId("status").textContent = text;
  }

  // Greedy tokens after the prompt and the beginning of an answer.
  async generate(beginning, limit) {
    const before = beginning === "" ? [] : this.answerTokens();
    const prompt = this.promptIds();
    if (!this.fits([...prompt, ...before])) {
      return;
    }
    this.generations += 1;
    const number = this.generations;
    this.answerIds = [...before];
    this.setBusy(true);
    const ids = [...prompt, ...before];
    const result = await this.model.ask("generate", { ids, end: this.end, limit }, (id) => {
      if (number === this.generations) {
        this.answerIds.push(id);
        byId("answer").value = this.tokenizer.decode(this.answerIds);
      }
    });
    if (number !== this.generations) {
      return; // the reader has chosen another question
    }
    byId("answer").value = this.tokenizer.decode(this.answerIds);
    this.setBusy(false);
    this.shownAnswer = null;
    const stopped = limit === 1 && result.stopped === "length" ? "" : `; ${STOPPED[result.stopped]}`;
    const speed = result.n > 1 ? `, ${(result.n / result.seconds).toFixed(0)} tokens per second` : "";
    this.read(`${count(result.n, "token")} generated${speed}${stopped}.`);
  }

  // Another text takes the place of an answer that is still being generated.
  stopGenerating() {
    if (!byId("stop").disabled) {
      this.generations += 1;
      this.model.ask("stop");
      this.setBusy(false);
    }
  }

  setBusy(isBusy) {
    byId("stop").disabled = !isBusy;
    for (const id of ["generate", "one-token", "model-answer", "right-answer"]) {
      byId(id).disabled = isBusy;
    }
    for (const id of ["instruction", "input", "whole", "answer"]) {
      byId(id).readOnly = isBusy;
    }
    if (isBusy) {
      this.setStatus("Generating …");
    }
  }

  answerTokens() {
    return this.answerIds ?? this.tokenizer.encode(byId("answer").value);
  }

  // --- reading a text ---

  readSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.read(), PAUSE);
  }

  // Whether a text can be read; the status says why not.
  fits(ids) {
    if (ids.length === 0) {
      this.setStatus("The prompt is empty: type one.");
    } else if (ids.length > this.facts.limit) {
      this.setStatus(`${count(ids.length, "token")}, but this page reads at most ${this.facts.limit}: shorten the text.`);
    }
    return ids.length > 0 && ids.length <= this.facts.limit;
  }

  // Reads prompt and answer, and shows them; `note` is what the status says afterwards.
  async read(note = "") {
    clearTimeout(this.timer);
    this.readings += 1;
    const number = this.readings;
    byId("prompt-text").textContent = this.mode() === "question" ? this.questionText() : "";
    this.showVerdict();
    const view = this.isComputed ? this.storedView() : await this.computedView();
    if (view === null || number !== this.readings) {
      return; // it can't be read, or the reader has typed on
    }
    this.setStatus(note || view.note);
    this.view = view;
    this.showTokens();
    this.showHeads();
    this.markInTokens(view.nPrompt - 1);
    this.selectToken(view.nPrompt - 1);
  }

  async computedView() {
    const prompt = this.promptIds();
    const ids = [...prompt, ...this.answerTokens()];
    if (prompt.length === 0) {
      this.setStatus("The prompt is empty: type one.");
      return null;
    }
    if (!this.fits(ids)) {
      return null;
    }
    const start = performance.now();
    const read = await this.model.ask("read", { ids, end: this.end });
    const seconds = (performance.now() - start) / 1000;
    const note = `${count(ids.length, "token")} read in ${seconds.toFixed(2)} seconds.`;
    return { ids, nPrompt: prompt.length, note, ...read };
  }

  storedView() {
    const read = this.model.read(this.question, this.shownAnswer);
    if (read === null) {
      this.setStatus("This answer is longer than the model’s context, so it was not computed.");
      return null;
    }
    return { ...read, note: "" };
  }

  // --- tokens ---

  // The token at a place; after the last one comes the end of the text.
  tokenAt(place) {
    return place < this.view.ids.length ? this.view.ids[place] : this.end;
  }

  showTokens() {
    const { ids, nPrompt, judgements } = this.view;
    const items = judgements.map((judged, place) => {
      const item = this.chip(place);
      item.setAttribute("role", "option");
      item.classList.toggle("is-answer", place >= nPrompt);
      const loss = judged === null ? "no loss" : `loss ${judged.loss.toFixed(2)}`;
      item.setAttribute("aria-label", `${this.piece(this.tokenAt(place))}, ${loss}`);
      item.style.setProperty("--share", judged === null ? 0 : Math.min(judged.loss / SURPRISE, 1));
      return item;
    });
    byId("tokens").replaceChildren(...items);
    const losses = judgements.map((judged) => judged?.loss);
    const answer = losses.slice(nPrompt);
    const prompt = losses.slice(1, nPrompt);
    const ofPrompt = prompt.length > 0 ? `; of the prompt ${mean(prompt).toFixed(2)}` : "";
    const why = this.facts.isTrainedOnAnswers
      ? " The run was trained to predict answers alone, so the prompt surprises it."
      : "";
    byId("loss-summary").textContent =
      `Mean loss of the answer and its end: ${mean(answer).toFixed(3)} nats over ` +
      `${count(answer.length, "token")}${ofPrompt}.${why}`;
    byId("attended").replaceChildren(...ids.map((_, place) => this.chip(place)));
    this.showTable();
  }

  // A token as a small box.
  chip(place) {
    return element("li", this.piece(this.tokenAt(place)), "chip");
  }

  selectToken(place) {
    this.selected = place;
    const judged = this.view.judgements[place];
    const id = this.tokenAt(place);
    const name = `Token ${place + 1} of ${this.view.judgements.length}: ‘${this.piece(id)}’, id ${id}`;
    const told =
      judged === null
        ? "; the first one, which nothing predicts"
        : `; loss ${judged.loss.toFixed(3)} nats, probability ${percent(Math.exp(-judged.loss))}, rank ${judged.rank.toLocaleString("en")}`;
    byId("token-line").textContent = `${name}${told}.`;
    this.showNext();
    this.showAttention();
  }

  showTable() {
    const rows = this.view.judgements.map((judged, place) => {
      const row = element("tr");
      const header = element("th", String(place + 1));
      header.scope = "row";
      row.append(header, element("td", this.piece(this.tokenAt(place)), "token"));
      if (judged === null) {
        row.append(element("td", "–"), element("td", "–"), element("td", "–"));
      } else {
        const likeliest = `${this.piece(judged.best)} (${percent(judged.bestProbability)})`;
        row.append(element("td", judged.loss.toFixed(3)));
        row.append(element("td", judged.rank.toLocaleString("en")), element("td", likeliest, "token"));
      }
      row.append(element("td", "", "token"));
      return row;
    });
    byId("table-rows").replaceChildren(...rows);
  }

  // --- what comes next ---

  async showNext() {
    const temperature = +byId("temperature").value;
    byId("temperature-value").textContent = temperature.toFixed(1);
    const place = this.selected;
    const view = this.view;
    if (view === null) {
      return;
    }
    if (place === view.ids.length) {
      byId("next-title").textContent = "What comes next";
      byId("next").replaceChildren();
      byId("next-note").textContent = "Here the text ends: select an earlier token.";
      return;
    }
    const right = this.tokenAt(place + 1);
    const found = await this.model.ask("predict", { place, right, temperature });
    if (view !== this.view || place !== this.selected || temperature !== +byId("temperature").value) {
      return; // the reader has moved on
    }
    byId("next-title").textContent = `What comes after ‘${this.piece(view.ids[place])}’`;
    byId("next").replaceChildren(...found.top.map((next) => this.nextItem(next, right)));
    byId("next-note").textContent =
      `In the text ‘${this.piece(right)}’ comes next: rank ${found.right.rank.toLocaleString("en")}, ` +
      `probability ${percent(found.right.probability)}.`;
  }

  nextItem({ id, probability }, right) {
    const item = element("li");
    item.classList.toggle("is-right", id === right);
    const bar = element("span", "", "bar");
    bar.style.setProperty("--share", probability);
    const name = element("span", this.piece(id), "piece");
    const share = element("span", percent(probability), "share");
    item.append(name, bar, share);
    if (id === right) {
      share.append(element("span", " in the text", "spoken"));
    }
    return item;
  }

  // --- attention ---

  fillSelectors() {
    const options = (n) =>
      Array.from({ length: n }, (_, i) => {
        const option = element("option", String(i + 1));
        option.value = String(i);
        return option;
      });
    byId("layer").replaceChildren(...options(this.facts.layers));
    byId("head").replaceChildren(...options(this.facts.heads));
  }

  connectPictures() {
    const map = byId("map");
    map.addEventListener("mousemove", (event) => this.showMapLine(this.placeInMap(event)));
    map.addEventListener("click", (event) => {
      const { token } = this.placeInMap(event);
      this.markInTokens(token);
      this.selectToken(token);
    });
    const redraw = () => {
      if (this.view !== null) {
        this.showHeads();
        this.showAttention();
      }
    };
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    let timer = null;
    window.addEventListener("resize", () => {
      clearTimeout(timer);
      timer = setTimeout(redraw, PAUSE);
    });
  }

  // Small maps of all heads, a row for each layer, with the numbers of both.
  showHeads() {
    const { layers, heads } = this.facts;
    const list = byId("heads");
    list.style.setProperty("--heads", heads);
    const numbers = Array.from({ length: heads }, (_, head) => this.mapNumber(head + 1));
    list.replaceChildren(this.mapNumber(""), ...numbers);
    for (let layer = 0; layer < layers; layer += 1) {
      const maps = Array.from({ length: heads }, (_, head) => this.headMap(layer, head));
      list.append(this.mapNumber(layer + 1), ...maps);
    }
    this.markInHeads(this.layer * heads + this.head);
  }

  mapNumber(number) {
    const label = element("span", String(number), "number");
    label.setAttribute("aria-hidden", "true"); // each map has a name of its own
    return label;
  }

  headMap(layer, head) {
    const item = element("div", "", "head");
    item.setAttribute("role", "option");
    item.setAttribute("aria-label", `layer ${layer + 1}, head ${head + 1}`);
    const canvas = element("canvas");
    drawHead(canvas, this.view.attention, layer, head, THUMBNAIL);
    item.append(canvas);
    return item;
  }

  chooseHead(layer, head) {
    this.layer = layer;
    this.head = head;
    this.markInHeads(layer * this.facts.heads + head);
    this.showAttention();
  }

  // The strip, the map and the table for the chosen head and the selected token.
  showAttention() {
    const { attention, ids } = this.view;
    const { layer, head } = this;
    byId("layer").value = String(layer);
    byId("head").value = String(head);
    byId("map-caption").textContent = `Layer ${layer + 1}, head ${head + 1}: each row is a token; the stronger the colour, the more it attends`;
    const token = Math.min(this.selected, ids.length - 1); // the end of the text isn't read
    const row = attentionRow(attention, layer, head, token);
    const largest = Array.from(row.keys()).sort((a, b) => row[b] - row[a]).slice(0, 3);
    const told = largest.map((key) => `‘${this.piece(ids[key])}’ ${percent(row[key])}`).join(", ");
    byId("attention-line").textContent = `Token ${token + 1}, ‘${this.piece(ids[token])}’, attends most to ${told}.`;
    const chips = Array.from(byId("attended").children);
    chips.forEach((chip, key) => {
      chip.style.setProperty("--share", key < row.length ? colourShare(row[key]) : 0);
      chip.classList.toggle("is-later", key > token);
      chip.classList.toggle("is-selected", key === token);
      chip.title = key <= token ? percent(row[key]) : "";
    });
    drawArcs(byId("arcs"), chips, row, token);
    this.showMap(token);
    this.showAttentionColumn();
  }

  showMap(token) {
    const T = this.view.ids.length;
    const map = byId("map");
    drawHead(map, this.view.attention, this.layer, this.head);
    map.setAttribute("aria-label", `Attention of layer ${this.layer + 1}, head ${this.head + 1}; the table has its largest weights`);
    const marker = byId("map-row");
    marker.hidden = false;
    marker.style.top = `${(100 * token) / T}%`;
    marker.style.height = `${100 / T}%`;
    this.showMapLine(null);
  }

  // The token and the key under the pointer.
  placeInMap(event) {
    const T = this.view.ids.length;
    const box = byId("map").getBoundingClientRect();
    const within = (share) => Math.max(0, Math.min(T - 1, Math.floor(share * T)));
    return {
      token: within((event.clientY - box.top) / box.height),
      key: within((event.clientX - box.left) / box.width),
    };
  }

  showMapLine(place) {
    if (place === null || place.key > place.token) {
      byId("map-line").textContent = "Point at the map, or click a row to select its token.";
      return;
    }
    const { ids, attention } = this.view;
    const weight = attentionWeight(attention, this.layer, this.head, place.token, place.key);
    byId("map-line").textContent =
      `${place.token + 1} ‘${this.piece(ids[place.token])}’ attends to ` +
      `${place.key + 1} ‘${this.piece(ids[place.key])}’: ${percent(weight)}`;
  }

  showAttentionColumn() {
    byId("attention-column").textContent = `Attends most to (layer ${this.layer + 1}, head ${this.head + 1})`;
    const { ids, attention } = this.view;
    Array.from(byId("table-rows").children).forEach((line, place) => {
      if (place === ids.length) {
        line.lastElementChild.textContent = "–";
        return;
      }
      const row = attentionRow(attention, this.layer, this.head, place);
      const key = largestPlace(row);
      line.lastElementChild.textContent = `${key + 1} ${this.piece(ids[key])} (${percent(row[key])})`;
    });
  }
}

if (typeof document !== "undefined") {
  const page = new LookPage();
  window.lookPage = page; // for the console
  page.ready = page.start().catch((error) => {
    page.setStatus(`This page can’t be shown: ${error.message}`);
    throw error;
  });
}
