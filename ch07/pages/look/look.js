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

// A block of data in the page; null if it has none of that name.
function dataBlock(name) {
  const block = byId(name);
  return block === null ? null : JSON.parse(block.textContent);
}

// A share as a percentage of fitting precision.
function percent(share) {
  const value = 100 * share;
  if (value < 0.01) {
    return value === 0 ? "0 %" : "< 0.01 %";
  }
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} %`;
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
    const model = `${counted(parameters, "parameter")}, ${counted(layers, "layer")} of ${counted(heads, "head")}`;
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
    byId("found").textContent = `${counted(found.length, "question")}${more}`;
    byId("question-list").replaceChildren(...this.listed.map((i) => this.questionItem(i)));
    this.markQuestion();
  }

  questionItem(i) {
    const { instruction, input, answer, output, isRight } = this.facts.questions[i];
    const item = element("li");
    item.setAttribute("role", "option");
    const sign = element("span", isRight ? "sign good" : "sign bad", isRight ? "✓" : "✗");
    const question = element("span", "asked", [instruction, input].filter(Boolean).join(" | "));
    const told = isRight ? answer : `${answer} (right: ${output})`;
    item.append(sign, element("span", "spoken", isRight ? "right: " : "wrong: "), question);
    item.append(" ", element("span", "told", told));
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
    this.markInQuestions = makeListbox(byId("question-list"), (i) => this.chooseQuestion(this.listed[i]));
    this.markInTokens = makeListbox(byId("tokens"), (i) => this.selectToken(i));
    const { layers, heads } = this.facts;
    const piece = (id) => this.piece(id);
    this.attention = new AttentionView(layers, heads, piece, (place) => this.selectFromMap(place));
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
    this.read(`${counted(result.n, "token")} generated${speed}${stopped}.`);
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
      this.setStatus(`${counted(ids.length, "token")}, but this page reads at most ${this.facts.limit}: shorten the text.`);
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
    this.attention.showText(view);
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
    const note = `${counted(ids.length, "token")} read in ${seconds.toFixed(2)} seconds.`;
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
    const { nPrompt, judgements } = this.view;
    const items = judgements.map((judged, place) => {
      const item = element("li", "chip", this.piece(this.tokenAt(place)));
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
      `${counted(answer.length, "token")}${ofPrompt}.${why}`;
    this.showTable();
  }

  selectFromMap(place) {
    this.markInTokens(place);
    this.selectToken(place);
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
    this.attention.showToken(place);
  }

  showTable() {
    const rows = this.view.judgements.map((judged, place) => {
      const row = element("tr");
      const header = element("th", "", String(place + 1));
      header.scope = "row";
      row.append(header, element("td", "token", this.piece(this.tokenAt(place))));
      if (judged === null) {
        row.append(element("td", "", "–"), element("td", "", "–"), element("td", "", "–"));
      } else {
        const likeliest = `${this.piece(judged.best)} (${percent(judged.bestProbability)})`;
        row.append(element("td", "", judged.loss.toFixed(3)));
        row.append(element("td", "", judged.rank.toLocaleString("en")), element("td", "token", likeliest));
      }
      row.append(element("td", "token"));
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
    const bar = element("span", "bar");
    bar.style.setProperty("--share", probability);
    const name = element("span", "piece", this.piece(id));
    const share = element("span", "share", percent(probability));
    item.append(name, bar, share);
    if (id === right) {
      share.append(element("span", "spoken", " in the text"));
    }
    return item;
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
