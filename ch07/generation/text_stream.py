"""Token ids one by one -> text as soon as it is certain, to show an answer as it is written.

The one idea: a token may hold only part of a character, as in Chinese or an emoji. Such bytes wait
until the character is complete, so the pieces together are the text of all tokens together.
"""

import codecs
from collections.abc import Callable

import tiktoken


class TextStream:
    """Passes on the text of tokens, piece by piece.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> pieces = []
    >>> stream = TextStream(load_tokenizer(), pieces.append)
    >>> for token_id in load_tokenizer().encode_ordinary("So 好"):
    ...     stream.add(token_id)
    >>> stream.end()
    >>> pieces
    ['So', ' ', '好']
    """

    def __init__(self, tokenizer: tiktoken.Encoding, on_text: Callable[[str], object]) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        # U+FFFD for bytes that are no character, as in `tokenizer.decode`
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token_id: int) -> None:
        """Take the next token, and pass on the characters that it completes."""
        self._emit(self._decoder.decode(self._tokenizer.decode_single_token_bytes(token_id)))

    def end(self) -> None:
        """Pass on what is left: half a character, if the answer was cut there."""
        self._emit(self._decoder.decode(b"", final=True))

    def _emit(self, text: str) -> None:
        if text:
            self._on_text(text)
