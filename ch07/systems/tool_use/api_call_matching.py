"""Find the API call in an answer, and tell right, wrong and made-up calls apart.

The one idea: an answer that is code can be judged without running it, by its syntax tree. Whether a
call is in the catalogue separates a model that chose badly from one that hallucinated. The answer
is untrusted text: it is parsed by `ast` and never evaluated. Knows nothing of models, prompts or
files.

Source: Patil et al., "Gorilla: Large Language Model Connected with Massive APIs" (2023), and its
evaluator, `eval/eval-scripts/ast_eval_*.py`. Ours differs from it on purpose:

- The original accepts any substring of the call as an argument; `find_api` wants equal arguments.
  `find_by_substring` keeps the original's rule for comparison.
- The original counts an answer as correct if its *domain* is right. The right call and the right
  domain are two questions here (`match_api_call`, `api_call_metrics`).
- The original parses one field of the answer with tree-sitter, which repairs broken code, and
  accepts a call anywhere in it. Ours judges the first call of the answer, which must be valid
  Python: code that can't run is no answer, and a list of guesses is judged by the first.
- The original compares code as it is spelled. Here white space, comments, quotation marks and
  other ways to write the same call make no difference, as in Python.
"""

import ast
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ch07.utils.errors import InputError

OUTCOMES = ("correct", "wrong_api", "hallucination", "unparsable")
MAX_CALL_CHARACTERS = 4000  # the rest of an answer is ignored
MAX_NESTING = 40  # brackets within brackets
# In prose, brackets may be looked at, and parsed, more than once; these bound the time.
MAX_STARTS = 200  # places where a call or a code span may begin
MAX_PARSED_CHARACTERS = 10 * MAX_CALL_CHARACTERS
_NAME = r"[^\W\d]\w*"
# Not "hub. load", which may end a sentence, nor "the .load".
_DOTTED_NAME = rf"{_NAME}(?:(?:\s+\.\s+|\n\s*\.|\.){_NAME}){{0,20}}"
_START = re.compile(
    r"(?P<backticks>`+)"
    r"|(?<![\w.])(?<!def )(?<!class )"  # a definition is no call
    rf"(?P<callee>{_DOTTED_NAME}|\(\s*{_DOTTED_NAME}\s*\))\s*\("
)
_CODE_SPAN = re.compile(r"`+(?:\w*\n)?(?P<code>[^`]*)(?:`+|\Z)")  # "`...`" or "```python\n..."
_STRING_COMMENT_OR_BRACKET = re.compile(
    r"""'{3}[\s\S]*?'{3}|"{3}[\s\S]*?"{3}"""  # strings and comments, whatever they contain
    r"""|'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"|\#.*\n"""
    r"""|[()\[\]{}]"""
)


@dataclass(frozen=True)
class ApiCall:
    """A call: its name, such as `hub.load`, and its arguments as normalized Python source.

    As source, 1, True and 1.0 are different, while 'a' and "a" are equal. `inner` are the calls
    within its arguments, the outermost first.
    """

    name: str
    args: tuple[str, ...] = ()
    kwargs: dict[str, str] = field(default_factory=dict)
    inner: "tuple[ApiCall, ...]" = ()

    def __str__(self) -> str:
        keywords = [f"{name}={value}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join([*self.args, *keywords])})"


@dataclass(frozen=True)
class Api:
    """An entry of a catalogue: a call, and the domain (the kind of task) that it belongs to.

    The order of its keyword arguments is their order as positional arguments.
    """

    call: ApiCall
    domain: str


def parse_api_call(text: str) -> ApiCall | None:
    """The first call in a text, or None; never raises.

    A text that is Python is read as Python. Otherwise it is prose, and a call in it is

    1. in backticks, a code span or block that is Python, or else
    2. a name and its bracket, if they touch. Prose puts a blank before a bracket, "the model
       (small)", so a call with a blank there or at a dot counts only if a string or a keyword is
       among its arguments, or if it has none.

    Brackets that contain no Python are skipped. A call that is never closed extends to the next
    backtick or the end. Of a chain, `a.b(1).c(2)`, the call is the first link, `a.b(1)`: what is
    done with its result does not change which API was called. Only the first
    `MAX_CALL_CHARACTERS` characters are considered, and `MAX_STARTS` places in them.

    >>> parse_api_call('model = hub.load("small", pretrained=True)  # a small one')
    ApiCall(name='hub.load', args=("'small'",), kwargs={'pretrained': 'True'}, inner=())
    >>> print(parse_api_call("The model (small) comes from hub . load ('small', n=2)."))
    hub.load('small', n=2)
    >>> parse_api_call("hub.load('small)") is None
    True
    """
    text = text[:MAX_CALL_CHARACTERS]
    call = _first_call(text)
    if call is not None:
        return call
    code_spans = {span.start(): span["code"] for span in _CODE_SPAN.finditer(text)}
    position = 0
    n_parsed = 0
    for _ in range(MAX_STARTS):
        start = _START.search(text, position)
        if start is None:
            return None
        if start["backticks"]:
            code = code_spans.get(start.start(), "")
            position = start.end()
        else:
            code, position = _code_in_prose(text, start)
        n_parsed += len(code)
        if n_parsed > MAX_PARSED_CHARACTERS:
            return None
        call = _first_call(code)
        if call is not None and not (_has_blanks(start) and _could_be_prose(call)):
            return call
    return None


def match_api_call(call: ApiCall | None, gold: ApiCall, catalogue: Iterable[Api]) -> str:
    """One of `OUTCOMES` for a call (None: the answer had none), where `gold` is the right call.

    "correct" is the gold call with equal arguments, "wrong_api" another call of the catalogue,
    "hallucination" a call that is not in it. ValueError if the gold call is not in the catalogue.
    """
    catalogue = list(catalogue)
    expected = find_api(gold, catalogue)
    if expected is None:
        raise InputError(f"the right call {gold} is not in the catalogue")
    if call is None:
        return "unparsable"
    found = find_api(call, catalogue)
    if found is None:
        return "hallucination"
    return "correct" if found == expected else "wrong_api"


def find_api(call: ApiCall, catalogue: Iterable[Api]) -> Api | None:
    """The catalogue's entry for a call, or None.

    Considers the outermost call to a function in the catalogue: `print(hub.load(...))` counts as
    `hub.load(...)`. A positional argument is matched to the keyword at its position.
    """
    catalogue = list(catalogue)
    names = {api.call.name for api in catalogue}
    for candidate in (call, *call.inner):
        if candidate.name in names:
            return next((api for api in catalogue if _is_call_of(candidate, api.call)), None)
    return None


def find_by_substring(call: ApiCall, catalogue: Iterable[Api]) -> Api | None:
    """The entry that the original's substring rule finds, or None; kept to show its weakness.

    The rule: the first entry whose function is called, and all of whose literals, without their
    quotes, occur *somewhere* in the text of that call. An entry without literals is never found,
    since the original's loop over them then counts no match. The literals are those of its
    evaluator for HuggingFace: all of them, keywords left out.

    Omitted on purpose, since it is chance and no rule: if no function has the right name, the
    original compares the part of the code that it inspected last; of several calls of a function
    it compares one only, the last in the text; and a name that is no call, such as the variable
    that the result is assigned to, counts as a function.

    >>> small = Api(parse_api_call("hub.load(model='small')"), "vision")
    >>> find_by_substring(parse_api_call("hub.load(model='small_v2')"), [small]) == small
    True
    >>> find_api(parse_api_call("hub.load(model='small_v2')"), [small]) is None
    True
    """
    for api in catalogue:
        literals = [*api.call.args, *api.call.kwargs.values()]
        if not literals:
            continue
        for candidate in (call, *call.inner):
            text = str(candidate)
            if candidate.name == api.call.name and all(v.strip("'\"") in text for v in literals):
                return api
    return None


def _is_call_of(call: ApiCall, entry: ApiCall) -> bool:
    """Whether a call equals a catalogue entry's, with keywords given by name or by position."""
    n_args = len(entry.args)
    positional = call.args[n_args:]
    by_position = dict(zip(entry.kwargs, positional, strict=False))
    return (
        call.name == entry.name
        and call.args[:n_args] == entry.args
        and len(by_position) == len(positional)
        and not by_position.keys() & call.kwargs.keys()
        and by_position | call.kwargs == entry.kwargs
    )


# --- from text to a tree ------------------------------------------------------------------------
def _code_in_prose(text: str, start: re.Match[str]) -> tuple[str, int]:
    """The code of the call that begins at a match of `_START`, and where to search afterwards.

    The code is empty if the brackets are never closed. After a name with blanks, which may be
    prose, the search goes on within the brackets.
    """
    name_end = start.end("callee")
    end = _end_of_call(text, start.end())
    if end is not None:
        code = "".join(start["callee"].split()) + text[start.end() - 1 : end]
        return code, name_end if _has_blanks(start) else end
    if _has_blanks(start):
        return "", name_end
    backtick = text.find("`", name_end)
    if backtick < 0:
        return "", len(text)
    return "", backtick


def _has_blanks(start: re.Match[str]) -> bool:
    return any(character.isspace() for character in start.group())


def _could_be_prose(call: ApiCall) -> bool:
    """Whether the brackets hold bare words or numbers only, such as "(small)" or "(2023)"."""
    has_string = any(value.endswith(("'", '"')) for value in call.args)
    return bool(call.args) and not call.kwargs and not has_string


def _end_of_call(text: str, start: int) -> int | None:
    """Where the bracket before `start` is closed, ignoring brackets in strings; None if nowhere."""
    depth = 1
    for match in _STRING_COMMENT_OR_BRACKET.finditer(text, start):
        depth += _nesting_change(match.group())
        if depth == 0:
            return match.end()
    return None


def _is_nested_too_deeply(code: str) -> bool:
    depth = 0
    for match in _STRING_COMMENT_OR_BRACKET.finditer(code):
        depth += _nesting_change(match.group())
        if depth > MAX_NESTING:
            return True
    return False


def _nesting_change(token: str) -> int:
    if token in "([{":
        return 1
    if token in ")]}":
        return -1
    return 0  # a string or a comment


def _first_call(code: str) -> ApiCall | None:
    """The first call of a text that is Python throughout; None if it isn't, or has no call."""
    if _is_nested_too_deeply(code):
        return None
    code = re.sub(r"\A\s*\n", "", code)
    if code[:1].isspace():
        code = f"if True:\n{code}"  # which makes an indented text valid
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as one about the backslash in '\d'
            tree = ast.parse(code)
        calls = _calls(tree)
        if not calls:
            return None
        first = min(calls, key=lambda node: (node.lineno, node.col_offset))
        inner = [_call(node) for node in _calls(first) if node is not first]
        return replace(_call(first), inner=tuple(inner))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _calls(tree: ast.AST) -> list[ast.Call]:
    """The calls of a tree, the outermost first; of a chain only its first link."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if not _is_chained(call)]


def _is_chained(call: ast.Call) -> bool:
    """Whether a call is made on the result of another, as `.c(2)` in `a.b(1).c(2)`."""
    callee = call.func
    while isinstance(callee, ast.Attribute | ast.Subscript | ast.Await):
        callee = callee.value
    return isinstance(callee, ast.Call)


def _call(node: ast.Call) -> ApiCall:
    """ValueError for a keyword that is given twice, which Python rejects, too."""
    args = [_source(value) for value in node.args]
    kwargs: dict[str, str] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            args.append(f"**{_source(keyword.value)}")
        elif keyword.arg in kwargs:
            raise InputError(f"{keyword.arg} is given twice")
        else:
            kwargs[keyword.arg] = _source(keyword.value)
    name = ast.unparse(ast.Call(node.func, [], [])).removesuffix("()")  # "(lambda: 0)" in brackets
    return ApiCall(name, tuple(args), kwargs)


def _source(node: ast.expr) -> str:
    """The normalized source of a part of the tree; u'a' becomes 'a'."""
    return ast.unparse(ast.Constant(node.value) if isinstance(node, ast.Constant) else node)
