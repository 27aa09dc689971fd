"use strict";

/* White space around a text, as Python's `str.strip` sees it; `trim` differs in six characters. */

const OUTER_WHITE_SPACE = /^[\p{White_Space}\x1c-\x1f]+|[\p{White_Space}\x1c-\x1f]+$/gu;

// A text without white space around it.
function stripped(text) {
  return text.replace(OUTER_WHITE_SPACE, "");
}
