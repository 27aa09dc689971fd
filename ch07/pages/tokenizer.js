"use strict";

/* GPT-2's byte-pair encoding: text <-> token ids, as `tiktoken.get_encoding("gpt2")` has them.

   The one idea: a text is cut into words, a word is a row of bytes, and of all neighbours that may
   be merged the pair that was learned first is merged, until none is left. A token's id follows
   from where it was learned: 256 bytes, then one token for each merge, then the end of text.
   A text is always ordinary text; nothing that is typed becomes the end-of-text token. */

// As GPT-2 cuts a text into words. \s is spelled out, because JavaScript's has U+FEFF, which is no
// white space in Unicode, and lacks U+0085, which is.
const TOKENIZER_WORDS =
  /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}/gu;
// As SmolLM2's tokenizer does: each digit is a word of its own.
const TOKENIZER_SMOLLM_WORDS =
  /'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?![^\p{White_Space}\p{N}])|\p{White_Space}+/gu;
const TOKENIZER_PATTERNS = { "gpt-2": TOKENIZER_WORDS, smollm: TOKENIZER_SMOLLM_WORDS };
const TOKENIZER_END = "<|endoftext|>"; // how the end of a text decodes
const TOKENIZER_END_LABEL = "<END>"; // how it is shown; no other token is
const TOKENIZER_PLACES = 2 ** 26; // more than a word has bytes

// The letter that stands for each byte in the merges: 256 letters, by byte.
function tokenizerByteLetters() {
  const isPrintable = (byte) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  const letters = new Array(256);
  let next = 256;
  for (let byte = 0; byte < 256; byte += 1) {
    letters[byte] = String.fromCharCode(isPrintable(byte) ? byte : next);
    next += isPrintable(byte) ? 0 : 1;
  }
  return letters;
}

// The smallest of some numbers first: push and pop in logarithmic time.
class TokenizerHeap {
  constructor() {
    this.items = [];
  }

  push(item) {
    const items = this.items;
    let place = items.length;
    items.push(item);
    while (place > 0) {
      const above = (place - 1) >> 1;
      if (items[above] <= item) {
        break;
      }
      items[place] = items[above];
      place = above;
    }
    items[place] = item;
  }

  pop() {
    const items = this.items;
    const smallest = items[0];
    const last = items.pop();
    if (items.length > 0) {
      this.sink(last);
    }
    return smallest;
  }

  // Puts an item in the first place and moves it down to where it belongs.
  sink(item) {
    const items = this.items;
    let place = 0;
    for (;;) {
      let below = 2 * place + 1;
      if (below >= items.length) {
        break;
      }
      if (below + 1 < items.length && items[below + 1] < items[below]) {
        below += 1;
      }
      if (items[below] >= item) {
        break;
      }
      items[place] = items[below];
      place = below;
    }
    items[place] = item;
  }
}

// A word's letters merged to tokens, the pair learned first before all others, and of equal pairs
// the leftmost. Each part is at the place of its first letter; -1 ends the chain of parts.
function mergeLetters(letters, ids) {
  const parts = Array.from(letters);
  const next = parts.map((_, place) => (place + 1 < parts.length ? place + 1 : -1));
  const before = parts.map((_, place) => place - 1);
  const heap = new TokenizerHeap();
  const rankAt = (place) => {
    const isPair = place >= 0 && parts[place] !== null && next[place] !== -1;
    return isPair ? ids.get(parts[place] + parts[next[place]]) : undefined;
  };
  const offer = (place) => {
    const rank = rankAt(place);
    if (rank !== undefined) {
      heap.push(rank * TOKENIZER_PLACES + place);
    }
  };
  parts.forEach((_, place) => offer(place));
  while (heap.items.length > 0) {
    const item = heap.pop();
    const place = item % TOKENIZER_PLACES;
    if (rankAt(place) !== (item - place) / TOKENIZER_PLACES) {
      continue; // one of the two has been merged with another since
    }
    const merged = next[place];
    parts[place] += parts[merged];
    parts[merged] = null;
    next[place] = next[merged];
    if (next[place] !== -1) {
      before[next[place]] = place;
    }
    offer(place);
    offer(before[place]);
  }
  return parts.filter((part) => part !== null);
}

// A letter as Python's repr writes it, if it can't be seen.
function visibleLetter(letter) {
  if (letter === " " || !/[\p{C}\p{Z}]/u.test(letter)) {
    return letter;
  }
  const code = letter.codePointAt(0);
  if (letter === "\r") {
    return "\\r";
  }
  if (code > 0xffff) {
    return `\\U${code.toString(16).padStart(8, "0")}`;
  }
  return code > 0xff
    ? `\\u${code.toString(16).padStart(4, "0")}`
    : `\\x${code.toString(16).padStart(2, "0")}`;
}

// A token's bytes as one visible word: marks for spaces and newlines, or bytes in hexadecimal.
function visibleBytes(bytes) {
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"));
    return `<${digits.join("")}>`; // part of a character, as in Chinese or an emoji
  }
  const marked = text.replaceAll("\n", "↵").replaceAll(" ", "␣").replaceAll("\t", "⇥");
  return Array.from(marked, visibleLetter).join("");
}

// GPT-2's vocabulary, of which the merges say everything.
function gpt2Vocabulary(merges) {
  const tokens = tokenizerByteLetters().sort().concat(mergedTokens(merges), TOKENIZER_END);
  const end = tokens.length - 1;
  return { tokens, marks: { [TOKENIZER_END]: end }, end, words: "gpt-2", missing: [] };
}

/* The tokenizer that `merges` describes: the merge lines of GPT-2's vocab.bpe, without the line
   that names a version. It has

   encode(text)   the ids of a text, which is ordinary text throughout
   decode(ids)    the text of ids; what is no UTF-8 becomes U+FFFD
   piece(id)      one token as a visible word; "<END>" for the end of text
   size(id)       the number of bytes of one token's text

   All but encode throw a RangeError for what is no id.

   A model's own `vocabulary` takes the place of the merges, as the `Vocabulary` of
   `ch07/data/byte_pair_vocabulary.py` has it: {tokens, marks, end, words, missing}. Its tokens are
   by id, in letters; a mark, such as "<|im_start|>", is a token that no text becomes; `end` is an
   id; `missing` are the letters of bytes that the vocabulary lacks, which are left out. */
function makeTokenizer(merges, vocabulary = null) {
  const { tokens, marks, end, words, missing } = vocabulary ?? gpt2Vocabulary(merges);
  const byteLetters = tokenizerByteLetters();
  const bytesOfLetters = new Map(byteLetters.map((letter, byte) => [letter, byte]));
  const markIds = new Set(Object.values(marks));
  const ids = new Map(tokens.map((token, id) => [token, id]));
  Object.keys(marks).forEach((mark) => ids.delete(mark));
  const lacking = new Set(missing);

  const bytesOf = (id) =>
    markIds.has(id)
      ? Array.from(new TextEncoder().encode(tokens[id]))
      : Array.from(tokens[id], (letter) => bytesOfLetters.get(letter));
  const check = (id) => {
    if (!Number.isInteger(id) || id < 0 || id >= tokens.length) {
      throw new RangeError(`${id} is no token: ids go from 0 to ${tokens.length - 1}`);
    }
  };

  function encode(text) {
    const found = [];
    for (const [word] of text.matchAll(TOKENIZER_PATTERNS[words])) {
      const bytes = new TextEncoder().encode(word);
      const letters = Array.from(bytes, (byte) => byteLetters[byte]);
      const known = letters.filter((letter) => !lacking.has(letter));
      const whole = ids.get(known.join(""));
      if (whole !== undefined) {
        found.push(whole);
        continue;
      }
      mergeLetters(known, ids).forEach((part) => found.push(ids.get(part)));
    }
    return found;
  }

  function decode(wanted) {
    wanted.forEach(check);
    const bytes = wanted.map(bytesOf).flat();
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes));
  }

  function piece(id) {
    check(id);
    return id === end ? TOKENIZER_END_LABEL : visibleBytes(new Uint8Array(bytesOf(id)));
  }

  function size(id) {
    check(id);
    return id === end ? TOKENIZER_END.length : bytesOf(id).length;
  }

  return { encode, decode, piece, size };
}

// The tokens that the merges make, in letters: "Ġ t" is the token "Ġt".
function mergedTokens(merges) {
  return merges
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => line.trim().replace(" ", ""));
}
