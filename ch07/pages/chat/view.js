// What is shown: turns, suggestions, the prompt. Texts are put in with textContent alone.
"use strict";

const ROLES = {
  template: "template",
  system: "system message",
  instruction: "question",
  input: "input",
  answer: "earlier answer",
  end: "end of text",
};

const ENDS = {
  length: "Stopped at the limit of new tokens.",
  context: "Stopped: the model's context is full.",
  time: "Stopped at the server's time limit.",
  shutdown: "Stopped: the server is shutting down.",
  stopped: "You stopped this answer.",
};

const FEWEST_TIMED = 5; // tokens: of fewer, a speed says little

// A button that calls a function.
function button(text, onClick) {
  const created = element("button", "", text);
  created.type = "button";
  created.addEventListener("click", onClick);
  return created;
}

// The elements of a turn: the question, and the place of its answer.
function turnElement(turn) {
  const item = element("li");
  const question = element("div", "question");
  question.append(element("span", "spoken", "You asked:"), element("p", "", turn.question));
  if (turn.input) {
    const given = element("p", "given", turn.input);
    given.prepend(element("span", "spoken", "Input: "));
    question.append(given);
  }
  turn.textElement = element("p", "answer");
  turn.below = element("div", "below");
  item.append(question, turn.textElement, turn.below);
  return item;
}

// The answer of a turn in its present state; `actions` are for the buttons below it.
function showTurn(turn, isLast, actions) {
  const text = turn.textElement;
  const isWriting = turn.state === "writing";
  text.textContent = turn.answer;
  text.classList.toggle("writing", isWriting);
  text.classList.toggle("empty", turn.state === "done" && !turn.answer.trim());
  if (turn.state === "done" && !turn.answer.trim()) text.textContent = "An empty answer";
  text.hidden = turn.state === "failed" && !turn.answer;
  turn.below.replaceChildren();
  turn.trouble?.remove();
  if (isWriting) return;
  if (turn.state === "failed") {
    turn.trouble = element("p", "trouble", turn.error);
    turn.trouble.setAttribute("role", "alert");
    text.after(turn.trouble);
  }
  turn.below.append(element("span", "note", noteOf(turn)), ...buttonsOf(turn, isLast, actions));
}

// How long the answer is, how fast it came, and why it ended unless by itself.
function noteOf(turn) {
  const parts = [];
  if (turn.nTokens !== undefined) {
    const speed = turn.nTokens >= FEWEST_TIMED ? `, ${Math.round(turn.nTokens / turn.seconds)} a second` : "";
    parts.push(`${counted(turn.nTokens, "token")}${speed}.`);
  }
  if (ENDS[turn.end]) parts.push(ENDS[turn.end]);
  if (turn.forgotten) parts.push(`${counted(turn.forgotten, "earlier turn")} forgotten: the context is full.`);
  return parts.join(" ");
}

function buttonsOf(turn, isLast, actions) {
  const buttons = [];
  if (turn.answer) buttons.push(copyButton(() => turn.answer));
  buttons.push(button("Prompt", () => actions.showPrompt(turn.request)));
  if (isLast) {
    buttons.push(button("Edit", () => actions.edit(turn)));
    const again = turn.state === "failed" ? "Try again" : "Regenerate";
    buttons.push(button(again, () => actions.regenerate(turn)));
  }
  return buttons;
}

// A button that copies a text, and says that it did.
function copyButton(textOf) {
  const created = button("Copy", () => copyText(textOf(), created));
  return created;
}

async function copyText(text, from) {
  try {
    await navigator.clipboard.writeText(text);
    from.textContent = "Copied";
  } catch {
    from.textContent = "Can't copy";
  }
  setTimeout(() => (from.textContent = "Copy"), 1500);
}

// The questions that an empty page offers.
function showSuggestions(suggestions, onChoose) {
  const items = suggestions.map((suggestion) => {
    const choose = button("", () => onChoose(suggestion));
    choose.append(element("span", "", suggestion.instruction));
    if (suggestion.input) choose.append(element("span", "quiet", suggestion.input));
    const item = element("li");
    item.append(choose);
    return item;
  });
  byId("suggestions").replaceChildren(...items);
}

// The prompt in its dialog, as text and as tokens.
function showPromptView(prompt) {
  const size = `${counted(prompt.tokens.length, "token")} of the ${prompt.context_length.toLocaleString("en")} that this model reads.`;
  const forgotten = prompt.forgotten_turns
    ? ` ${counted(prompt.forgotten_turns, "earlier turn")} left out.`
    : "";
  byId("prompt-size").textContent = size + forgotten;
  byId("prompt-text").replaceChildren(
    ...prompt.parts.map((part) => element("span", roleClass(part.role), part.text)),
  );
  byId("prompt-tokens").replaceChildren(...prompt.tokens.map(tokenElement));
  const used = new Set(prompt.parts.map((part) => part.role));
  const entries = Object.keys(ROLES).filter((role) => used.has(role));
  byId("legend").replaceChildren(
    ...entries.map((role) => {
      const item = element("li");
      item.append(element("span", roleClass(role), ROLES[role]));
      return item;
    }),
  );
  showPromptAs("text");
  byId("prompt-view").showModal();
}

function tokenElement(token) {
  const item = element("li", roleClass(token.role));
  item.append(element("span", "", token.text), element("span", "id", String(token.id)));
  return item;
}

function roleClass(role) {
  return role === "answer" ? "answer-role" : role;
}

// Show the prompt as "text" or as "tokens".
function showPromptAs(form) {
  for (const name of ["text", "tokens"]) {
    byId(`prompt-${name}`).hidden = name !== form;
    byId(`as-${name}`).setAttribute("aria-pressed", String(name === form));
  }
}
