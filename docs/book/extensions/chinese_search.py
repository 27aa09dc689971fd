"""Search in Chinese without a dictionary: texts and queries are cut into pairs of characters.

Sphinx finds Chinese words only with the package jieba, and its page cuts a query at spaces, of
which Chinese has none. Pairs need neither, and single characters are words as well.
"""

import re

from sphinx.application import Sphinx
from sphinx.search.zh import SearchChinese

HAN = re.compile(r"[\u3400-\u9fff]+")
# The same for a query, in the browser.
SPLIT_QUERY = r"""
var splitQuery = (query) =>
  (query.match(/[\u3400-\u9fff]+|[\p{Letter}\p{Number}_]+/gu) || []).flatMap((word) =>
    /[\u3400-\u9fff]/.test(word) && word.length > 2
      ? Array.from({ length: word.length - 1 }, (_, i) => word.slice(i, i + 2))
      : [word],
  );
"""


class SearchByPairs(SearchChinese):
    """Sphinx's Chinese search, with pairs of characters as words."""

    language_name = "English"  # names the stemmer: Chinese has none, its Latin words are English
    js_splitter_code = SPLIT_QUERY

    def split(self, input: str) -> list[str]:
        """The pairs of Chinese characters and the Latin words of a text."""
        words = self.latin1_letters.findall(input)
        self.latin_terms.update(words)
        for run in HAN.findall(input):
            words += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        return words

    def word_filter(self, stemmed_word: str) -> bool:
        """Whether a word is worth finding: Latin ones from two letters on, Chinese ones all."""
        return len(stemmed_word) > 1 or HAN.fullmatch(stemmed_word) is not None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_search_language(SearchByPairs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
