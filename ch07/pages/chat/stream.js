// The server: requests with the key, answers piece by piece, errors in words.
"use strict";

const KEY_NAME = "ch07 key";

// An error of the server, or of the way to it; its message is for the reader.
class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// The key that was typed in this tab, or "".
function storedKey() {
  try {
    return sessionStorage.getItem(KEY_NAME) || "";
  } catch {
    return "";
  }
}

// Keep a key until the tab is closed.
function storeKey(key) {
  try {
    sessionStorage.setItem(KEY_NAME, key);
  } catch {
    // Without a storage it is asked for again.
  }
}

// Send a request; ServerError unless the server accepts it.
async function ask(path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (storedKey()) headers["Authorization"] = `Bearer ${storedKey()}`;
  const options = { method: body === undefined ? "GET" : "POST", headers, signal };
  if (body !== undefined) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server doesn't answer. Is it still running?", 0);
  }
  if (!response.ok) throw new ServerError(await reasonOf(response), response.status);
  return response;
}

// What an error response says, as a sentence.
async function reasonOf(response) {
  let reason = `The server answers with status ${response.status}.`;
  try {
    reason = sentence((await response.json()).error.message);
  } catch {
    // No JSON: the status has to do.
  }
  if (response.status === 503) return `The server is busy: ${lowerFirst(reason)}`;
  return reason;
}

// The text with a capital letter at its beginning and a full stop at its end.
function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function lowerFirst(text) {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

// Call onPart with each part of a streamed answer; ServerError if it breaks off.
async function readAnswer(body, signal, onPart) {
  const response = await ask("v1/chat/completions", body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  let isWhole = false;
  while (!isWhole) {
    const { done, value } = await readOrFail(reader);
    if (done) break;
    const events = (waiting + value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") isWhole = true;
      else onPart(checkedPart(JSON.parse(data)));
    }
  }
  if (!isWhole) throw new ServerError("The answer broke off. Is the server still running?", 0);
}

async function readOrFail(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The answer broke off. Is the server still running?", 0);
  }
}

function checkedPart(part) {
  if (part.error) throw new ServerError(sentence(part.error.message), 500);
  return part;
}
