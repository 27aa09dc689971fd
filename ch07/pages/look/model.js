"use strict";

/* Where the page's answers come from: a model in a thread of its own, or what Python computed.

   The one idea: both are asked the same two questions, `read` and `predict`, and answer with a
   promise. The thread is a Web Worker that runs the page's own scripts, so the page stays quick. */

// Answers requests about a model: runs in the worker, or in the page where there are no workers.
class ModelServer {
  constructor() {
    this.isStopped = false;
  }

  // Decodes the weights; says how long that took.
  open({ data }) {
    const start = performance.now();
    this.model = modelFromData(data);
    return { seconds: (performance.now() - start) / 1000 };
  }

  // Reads a text: how well each token was predicted, and the attention of each.
  read({ ids, end }) {
    this.reading = new Reading(this.model, ids.length);
    this.reading.read(ids);
    return { judgements: this.reading.judgements(end), attention: this.reading.attention };
  }

  // What comes after a place of the text that was read last.
  predict({ place, right, temperature }) {
    return this.reading.predict(place, right, temperature);
  }

  // Greedy tokens after a text, each reported by `onToken`, until its end, a limit or `stop`.
  async generate({ ids, end, limit }, onToken) {
    this.isStopped = false;
    const space = Math.min(limit, this.model.config.context_length - ids.length);
    const reading = new Reading(this.model, ids.length + space);
    const start = performance.now();
    reading.read(ids);
    const read = performance.now();
    let stopped = space === limit ? "length" : "context";
    let n = 0;
    while (n < space) {
      const id = reading.greedyNext();
      if (id === end) {
        stopped = "end";
        break;
      }
      n += 1;
      onToken(id);
      await nextTurn(); // lets a request to stop come in
      if (this.isStopped) {
        stopped = "reader";
        break;
      }
      if (n < space) {
        reading.read([id]);
      }
    }
    const seconds = (performance.now() - read) / 1000;
    return { stopped, n, seconds, secondsToRead: (read - start) / 1000 };
  }

  stop() {
    this.isStopped = true;
    return {};
  }
}

// A promise that is kept as soon as other events have had their turn.
function nextTurn() {
  return new Promise((resolve) => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => resolve();
    channel.port2.postMessage(null);
  });
}

// In the worker: each message is {number, request, details}, and is answered with its number.
function serveMessages() {
  const server = new ModelServer();
  self.onmessage = async ({ data: { number, request, details } }) => {
    const onToken = (token) => self.postMessage({ number, token });
    try {
      const result = await server[request](details, onToken);
      self.postMessage({ number, result });
    } catch (error) {
      self.postMessage({ number, error: error.message });
    }
  };
}

// The page's side of the worker.
class ModelInWorker {
  constructor() {
    const scripts = Array.from(document.scripts).filter((script) => script.type === "");
    const text = scripts.map((script) => script.textContent).join("\n");
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    this.worker = new Worker(address);
    this.number = 0;
    this.waiting = new Map(); // by number of the request
    this.worker.onmessage = ({ data }) => this.receive(data);
  }

  ask(request, details = {}, onToken = () => {}) {
    this.number += 1;
    const number = this.number;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject, onToken });
      this.worker.postMessage({ number, request, details });
    });
  }

  receive({ number, token, result, error }) {
    const { resolve, reject, onToken } = this.waiting.get(number);
    if (token !== undefined) {
      onToken(token);
      return;
    }
    this.waiting.delete(number);
    if (error === undefined) {
      resolve(result);
    } else {
      reject(new Error(error));
    }
  }
}

// The same without a worker, for browsers that refuse to start one from a file.
class ModelInPage {
  constructor() {
    this.server = new ModelServer();
  }

  async ask(request, details = {}, onToken = () => {}) {
    await nextTurn();
    return this.server[request](details, onToken);
  }
}

function openModel() {
  try {
    return new ModelInWorker();
  } catch {
    return new ModelInPage();
  }
}

/* What Python has computed for some questions, in the form in which a model would answer.

   `data` is the page's block "readings": {temperatures, pieces, readings}. */
class StoredReadings {
  constructor(data, layers, heads) {
    this.data = data;
    this.layers = layers;
    this.heads = heads;
  }

  // The text of a question with the model's "answer" or the right one ("output"); null if too long.
  read(question, kind) {
    this.reading = this.data.readings[question][kind];
    if (this.reading === null) {
      return null;
    }
    const { ids, nPrompt, losses, ranks, top, logits, totals } = this.reading;
    const one = this.data.temperatures.indexOf(1);
    const judgements = losses.map((loss, place) => ({
      loss,
      rank: ranks[place],
      best: top[place][0],
      bestProbability: Math.exp(logits[place][0] - totals[place][one]),
    }));
    return { ids, nPrompt, judgements: [null, ...judgements], attention: this.attention() };
  }

  attention() {
    const numbers = numbersFromFloat16(bytesFromBase64(this.reading.attention));
    let start = 0;
    return Array.from({ length: this.layers }, () =>
      this.reading.ids.map((_, token) => {
        const size = this.heads * (token + 1);
        start += size;
        return numbers.subarray(start - size, start);
      }),
    );
  }

  async ask(request, { place, right, temperature }) {
    const { top, logits, totals, ranks, right: rightLogits } = this.reading;
    const nearest = this.data.temperatures.findIndex((t) => Math.abs(t - temperature) < 1e-9);
    const total = totals[place][nearest];
    const probability = (logit) => Math.exp(logit / temperature - total);
    return {
      top: top[place].map((id, i) => ({ id, probability: probability(logits[place][i]) })),
      right: { id: right, probability: probability(rightLogits[place]), rank: ranks[place] },
    };
  }
}

if (typeof document === "undefined") {
  serveMessages();
}
