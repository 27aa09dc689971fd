"use strict";

// Which words of an answer are new: those outside the longest sequence that both answers have.

// The words of a text, each with the space before it; a line's end is shown as a sign.
function wordsOf(text) {
  return text.replace(/\r\n|\r|\n/g, "↵").match(/\s*(?:↵|[^\s↵]+)|\s+$/g) || [];
}

// lengths[i][j]: how many words the rest of `before` from i and of `now` from j have in common.
function commonLengths(before, now) {
  const lengths = before.map(() => new Array(now.length + 1).fill(0));
  lengths.push(new Array(now.length + 1).fill(0));
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      const longest = Math.max(lengths[i + 1][j], lengths[i][j + 1]);
      lengths[i][j] = before[i] === now[j] ? lengths[i + 1][j + 1] + 1 : longest;
    }
  }
  return lengths;
}

// The words of `now` as [text, isNew] pieces.
function markedPieces(textBefore, textNow) {
  const before = wordsOf(textBefore).slice(0, 400);
  const now = wordsOf(textNow).slice(0, 400);
  const lengths = commonLengths(before, now);
  const pieces = [];
  let i = 0;
  let j = 0;
  while (j < now.length) {
    if (i < before.length && before[i] === now[j]) {
      pieces.push([now[j], false]);
      i += 1;
      j += 1;
    } else if (i < before.length && lengths[i + 1][j] >= lengths[i][j + 1]) {
      i += 1;
    } else {
      pieces.push([now[j], true]);
      j += 1;
    }
  }
  return pieces;
}
