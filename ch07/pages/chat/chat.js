// The conversation: what was asked, what is being written, and what every control does.
"use strict";

const NEAR_THE_END = 120; // pixels: whoever has scrolled further up is left there

let about = null; // what the server says about its model
let turns = []; // {question, input, request, answer, state: "writing", "done" or "failed", ...}
let writing = null; // the AbortController of the answer that is being written

const actions = { showPrompt, edit: editTurn, regenerate: answerTurn };

// --- the beginning -------------------------------------------------------------------------------
// Ask the server about its model; where a key is needed, ask for that first.
async function begin() {
  try {
    about = await (await ask("chat/about")).json();
  } catch (error) {
    if (error.status === 401) askForKey();
    else showStartTrouble(error.message);
    return;
  }
  document.title = `${about.model} – chat`;
  byId("model-name").textContent = about.model;
  byId("memory").textContent = about.remembers
    ? "Tuned on conversations: it remembers earlier turns."
    : "Tuned on single questions: it doesn't remember earlier ones.";
  byId("system-field").hidden = !about.takes_system;
  byId("welcome-text").textContent = about.suggestions.length
    ? "The model has never seen these three, but it was trained on others like them."
    : "Type it below.";
  showSuggestions(about.suggestions, useSuggestion);
  showConversation();
}

function showStartTrouble(message) {
  const trouble = element("p", "trouble", message);
  trouble.setAttribute("role", "alert");
  byId("turns").replaceChildren(trouble);
}

function askForKey() {
  byId("key-trouble").hidden = !storedKey();
  byId("key-trouble").textContent = "The server doesn't accept this key.";
  byId("key").value = "";
  if (!byId("key-view").open) byId("key-view").showModal();
}

function useKey(event) {
  event.preventDefault();
  storeKey(byId("key").value.trim());
  byId("key-view").close();
  if (about === null) begin();
}

// --- requests ------------------------------------------------------------------------------------
// The request for the answer to a question, with the turns before it if the model remembers.
function requestFor(question, input, earlier) {
  const messages = [];
  const system = byId("system").value.trim();
  if (about.takes_system && system) messages.push({ role: "system", content: system });
  for (const turn of about.remembers ? earlier : []) {
    if (turn.state !== "done") continue;
    messages.push(userMessage(turn.question, turn.input));
    messages.push({ role: "assistant", content: turn.answer });
  }
  messages.push(userMessage(question, input));
  return {
    model: about.model,
    messages,
    truncation: "auto",
    stream: true,
    stream_options: { include_usage: true },
    ...chosenSettings(),
  };
}

function userMessage(question, input) {
  return input ? { role: "user", content: question, input } : { role: "user", content: question };
}

// The settings as fields of a request; those that would do nothing are left out.
function chosenSettings() {
  const temperature = numberIn("temperature") ?? 0;
  const chosen = { temperature };
  const maxTokens = numberIn("max-tokens");
  if (maxTokens !== null) chosen.max_tokens = maxTokens;
  if (temperature > 0) {
    const topP = numberIn("top-p");
    if (topP !== null) chosen.top_p = topP;
    const seed = numberIn("seed");
    if (seed !== null) chosen.seed = seed;
  }
  return chosen;
}

function numberIn(id) {
  const text = byId(id).value.trim();
  return text === "" ? null : Number(text);
}

// The first setting that can't be used, shown by the browser; true if all can.
function settingsAreValid() {
  const fields = [...document.querySelectorAll("#settings input")].filter((f) => !f.disabled);
  const wrong = fields.find((field) => !field.validity.valid);
  if (!wrong) return true;
  byId("settings").open = true;
  wrong.reportValidity();
  return false;
}

// --- the conversation ----------------------------------------------------------------------------
function showConversation() {
  byId("welcome").hidden = turns.length > 0;
  turns.forEach((turn, i) => showTurn(turn, i === turns.length - 1, actions));
  const isWriting = writing !== null;
  byId("send").hidden = isWriting;
  byId("stop").hidden = !isWriting;
}

function send(event) {
  event?.preventDefault();
  const question = byId("question").value.trim();
  if (!question || writing || about === null || !settingsAreValid()) return;
  const input = byId("input-box").hidden ? "" : byId("input").value.trim();
  addTurn(question, input);
  byId("question").value = "";
  byId("input").value = "";
  showInput(false);
  fitHeights();
}

function addTurn(question, input) {
  const turn = { question, input };
  turn.item = turnElement(turn);
  byId("turns").append(turn.item);
  turns.push(turn);
  answerTurn(turn);
}

function useSuggestion(suggestion) {
  if (!writing && settingsAreValid()) addTurn(suggestion.instruction, suggestion.input);
}

// Have the last question answered, for the first time or again, with the settings of this moment.
async function answerTurn(turn) {
  if (writing || !settingsAreValid()) return;
  const controller = new AbortController();
  writing = controller;
  const earlier = turns.slice(0, turns.indexOf(turn));
  Object.assign(turn, {
    request: requestFor(turn.question, turn.input, earlier),
    answer: "",
    state: "writing",
    end: "",
    error: "",
    forgotten: 0,
    nTokens: undefined,
  });
  showConversation();
  focusQuestion();
  scrollToEnd(true);
  const started = performance.now();
  try {
    await readAnswer(turn.request, controller.signal, (part) => takePart(turn, part));
    turn.state = "done";
  } catch (error) {
    noteFailure(turn, error);
  }
  turn.seconds = (performance.now() - started) / 1000;
  if (writing === controller) writing = null;
  if (!turns.includes(turn)) return; // a new conversation has begun meanwhile
  showConversation();
  scrollToEnd(false);
  byId("announcement").textContent = turn.state === "done" ? `Answer: ${turn.answer}` : "";
}

function takePart(turn, part) {
  const isNear = isNearTheEnd();
  turn.forgotten = part.forgotten_turns ?? turn.forgotten;
  if (part.usage) turn.nTokens = part.usage.completion_tokens;
  for (const choice of part.choices) {
    turn.answer += choice.delta.content ?? "";
    turn.end = choice.stop_reason ?? turn.end;
  }
  turn.textElement.textContent = turn.answer;
  if (isNear) scrollToEnd(true);
}

function noteFailure(turn, error) {
  if (error.name === "AbortError") {
    turn.state = "done";
    turn.end = "stopped";
    return;
  }
  turn.state = "failed";
  turn.error = error instanceof ServerError ? error.message : `This page failed: ${error.message}`;
  if (error.status === 401) askForKey();
}

function stop() {
  writing?.abort();
}

// Put the last question back into the form.
function editTurn(turn) {
  if (writing) return;
  turn.item.remove();
  turns = turns.filter((other) => other !== turn);
  byId("question").value = turn.question;
  byId("input").value = turn.input;
  showInput(Boolean(turn.input));
  showConversation();
  fitHeights();
  byId("question").focus();
}

function newConversation() {
  stop();
  writing = null;
  turns = [];
  byId("turns").replaceChildren();
  byId("announcement").textContent = "A new conversation";
  if (about === null) begin();
  else showConversation();
  focusQuestion();
}

// Ready for typing; but a phone's keyboard would cover what is to be read.
function focusQuestion() {
  if (matchMedia("(hover: hover)").matches) byId("question").focus({ preventScroll: true });
}

function isNearTheEnd() {
  const page = document.documentElement;
  return page.scrollHeight - page.scrollTop - page.clientHeight < NEAR_THE_END;
}

function scrollToEnd(always) {
  if (always || isNearTheEnd()) window.scrollTo(0, document.documentElement.scrollHeight);
}

// --- the prompt ----------------------------------------------------------------------------------
async function showPrompt(request) {
  const { stream, stream_options, ...asked } = request;
  try {
    showPromptView(await (await ask("chat/prompt", asked)).json());
  } catch (error) {
    if (error.status === 401) askForKey();
    else showPromptTrouble(error.message);
  }
}

function showPromptTrouble(message) {
  byId("prompt-size").textContent = message;
  for (const id of ["prompt-text", "prompt-tokens", "legend"]) byId(id).replaceChildren();
  byId("prompt-view").showModal();
}

// The prompt of what is in the form, or of the last turn if the form is empty.
function showDraftPrompt() {
  if (about === null) return;
  const question = byId("question").value.trim();
  const last = turns[turns.length - 1];
  if (!question && last) showPrompt(last.request);
  else if (!question) showPromptTrouble("Type a question first: its prompt is shown here.");
  else {
    const input = byId("input-box").hidden ? "" : byId("input").value.trim();
    showPrompt(requestFor(question, input, turns));
  }
}

// --- controls ------------------------------------------------------------------------------------
function showInput(isShown) {
  byId("input-box").hidden = !isShown;
  byId("toggle-input").setAttribute("aria-expanded", String(isShown));
  byId("toggle-input").textContent = isShown ? "Remove input" : "Add input";
}

function toggleInput() {
  showInput(byId("input-box").hidden);
  byId(byId("input-box").hidden ? "question" : "input").focus();
}

// Without a temperature no token is drawn, so two settings would do nothing.
function showSamplingSettings() {
  const draws = (numberIn("temperature") ?? 0) > 0;
  byId("top-p").disabled = !draws;
  byId("seed").disabled = !draws;
  byId("temperature-help").textContent = draws
    ? "Tokens are drawn: the higher, the bolder."
    : "0: always the likeliest token, so an answer is the same each time.";
}

// As high as its lines, within limits.
function fitHeights() {
  for (const field of document.querySelectorAll("#composer textarea")) {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + 2}px`;
  }
}

function onKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
}

function connectControls() {
  byId("composer").addEventListener("submit", send);
  byId("composer").addEventListener("input", fitHeights);
  byId("question").addEventListener("keydown", onKey);
  byId("input").addEventListener("keydown", onKey);
  byId("stop").addEventListener("click", stop);
  byId("new").addEventListener("click", newConversation);
  byId("toggle-input").addEventListener("click", toggleInput);
  byId("see-prompt").addEventListener("click", showDraftPrompt);
  byId("temperature").addEventListener("input", showSamplingSettings);
  byId("as-text").addEventListener("click", () => showPromptAs("text"));
  byId("as-tokens").addEventListener("click", () => showPromptAs("tokens"));
  byId("close-prompt").addEventListener("click", () => byId("prompt-view").close());
  byId("copy-prompt").addEventListener("click", (event) =>
    copyText(byId("prompt-text").textContent, event.currentTarget),
  );
  byId("key-form").addEventListener("submit", useKey);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop();
  });
}

byId("settings").open = window.matchMedia("(min-width: 56rem)").matches;
connectControls();
showSamplingSettings();
begin();
