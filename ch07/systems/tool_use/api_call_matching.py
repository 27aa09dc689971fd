"""Find the API call in an answer, and tell right, wrong and made-up calls apart.

The one idea: an answer that is code can be judged without running it, by its syntax tree. Whether a
call is in the catalogue separates a model that chose badly from one that hallucinated. The answer
is untrusted text: it is parsed by `ast` and never evaluated. Knows nothing of models, prompts or
files.

Source: Patil et al., "Gorilla: Large Language Model Connected with Massive APIs" (2023), and its
evaluator, `eval/eval-scripts/ast_eval_*.py`. The original accepts any substring of the call as an
argument, and counts an answer as correct if its *domain* is right. Here arguments must be equal,
and the right call and the right domain are reported separately.
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
_CALL_START = re.compile(r"(?<![\w.])[^\W\d]\w*(?:\.[^\W\d]\w*)*\(")  # dotted name, bracket
_STRING_COMMENT_OR_BRACKET = re.compile(
    r"""'{3}[\s\S]*?'{3}|"{3}[\s\S]*?"{3}"""  # strings and comments, whatever they contain
    r"""|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\#.*\n"""
    r"""|[()\[\]{}]"""
)


@dataclass(frozen=True)
class ApiCall:
    """A call: its dotted name, and its arguments as normalized Python source.

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

    Surrounding text, such as an assignment or prose, is skipped, and so are brackets after a word
    that don't contain Python. A call that is never closed extends to the end of the text, so the
    result is None. Only the first `MAX_CALL_CHARACTERS` characters of the text are considered.

    >>> parse_api_call('model = hub.load("small", pretrained=True)  # a small one')
    ApiCall(name='hub.load', args=("'small'",), kwargs={'pretrained': 'True'}, inner=())
    >>> parse_api_call("hub.load('small)") is None
    True
    """
    text = text[:MAX_CALL_CHARACTERS]
    end = 0
    while start := _CALL_START.search(text, end):
        end = _end_of_call(text, start.end())
        if end is None:
            return None
        call = _parse(text[start.start() : end])
        if call is not None:
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
    since the original's loop over them then counts no match. (Omitted: if no function has the
    right name, the original continues with whichever part of the code it inspected last.)

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
def _end_of_call(text: str, start: int) -> int | None:
    """Where the bracket before `start` is closed, ignoring brackets in strings; None if nowhere."""
    depth = 1
    for match in _STRING_COMMENT_OR_BRACKET.finditer(text, start):
        token = match.group()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
        if depth == 0:
            return match.end()
        if depth > MAX_NESTING:
            return None
    return None


def _parse(source: str) -> ApiCall | None:
    """Python source -> `ApiCall`, or None if it is not a call."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as one about the backslash in '\d'
            tree = ast.parse(source, mode="eval").body
        if not isinstance(tree, ast.Call):  # but, for example, `not(x)`
            return None
        call, *inner = (_call(node) for node in ast.walk(tree) if isinstance(node, ast.Call))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return replace(call, inner=tuple(inner))


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
    return ApiCall(_source(node.func), tuple(args), kwargs)


def _source(node: ast.expr) -> str:
    """The normalized source of a part of the tree; u'a' becomes 'a'."""
    return ast.unparse(ast.Constant(node.value) if isinstance(node, ast.Constant) else node)
