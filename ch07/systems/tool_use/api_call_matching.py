"""A model's answer -> the call written in it -> is it the right one, a wrong one, or invented?

The one idea: an answer that is code can be judged without running it, as a tree. A call stands in
the catalogue or it doesn't, and that tells a model that chose badly from one that made something
up. The answer is a stranger's text: it is parsed by `ast` and never evaluated. Knows nothing of
models, prompts or files.

Source: Patil et al., "Gorilla: Large Language Model Connected with Massive APIs" (2023), and its
evaluator, `eval/eval-scripts/ast_eval_*.py`. The original takes any substring of the call for an
argument, and calls an answer correct if its *domain* is right. Here arguments must be equal, and
whether the call itself is right is told apart from whether its domain is.
"""

import ast
import re
import warnings
from dataclasses import dataclass, field, replace

OUTCOMES = ("correct", "wrong_api", "hallucination", "unparsable")
MAX_CALL_CHARACTERS = 4000  # characters of an answer that are looked at
MAX_NESTING = 40  # brackets within brackets
_BEGIN = re.compile(r"(?<![\w.])[^\W\d]\w*(?:\.[^\W\d]\w*)*\(")  # a dotted name and its bracket
_SIGN = re.compile(
    r"""'{3}[\s\S]*?'{3}|"{3}[\s\S]*?"{3}"""  # texts and comments, whatever stands in them
    r"""|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|\#.*\n"""
    r"""|[()\[\]{}]"""
)


@dataclass(frozen=True)
class ApiCall:
    """A call: its dotted name, and its arguments as text in Python's own spelling.

    As text, 1, True and 1.0 are three things, while 'a' and "a" are one. `inner` are the calls
    within its arguments, the outermost first.
    """

    name: str
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    inner: tuple = ()

    def __str__(self):
        keywords = [f"{name}={value}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join([*self.args, *keywords])})"


@dataclass(frozen=True)
class Api:
    """An entry of a catalogue: a call, and the domain (the kind of task) that it belongs to.

    The order of its keywords is the order in which they could be given without their names.
    """

    call: ApiCall
    domain: str


def parse_api_call(text):
    """The first call in a text, as an `ApiCall`, or None; never raises.

    What stands around it, an assignment or prose, is passed over, and so are brackets after a word
    that hold no Python. A call that is never closed has all that follows within it, so the answer
    is None. Of a text of more than `MAX_CALL_CHARACTERS` characters only the first are looked at.

    >>> parse_api_call('model = hub.load("small", pretrained=True)  # a small one')
    ApiCall(name='hub.load', args=("'small'",), kwargs={'pretrained': 'True'}, inner=())
    >>> parse_api_call("hub.load('small)") is None
    True
    """
    text = text[:MAX_CALL_CHARACTERS]
    end = 0
    while begin := _BEGIN.search(text, end):
        end = _end_of_call(text, begin.end())
        if end is None:
            return None
        call = _parsed(text[begin.start() : end])
        if call is not None:
            return call
    return None


def match_api_call(call, gold, catalogue):
    """One of `OUTCOMES` for a call (None: there was none) where `gold` was right.

    "correct" is the very call, with equal literals; "wrong_api" another of the catalogue's;
    "hallucination" none of them. ValueError if the catalogue has no such gold call.
    """
    wanted = find_api(gold, catalogue)
    if wanted is None:
        raise ValueError(f"the right call {gold} is none of the catalogue's")
    if call is None:
        return "unparsable"
    found = find_api(call, catalogue)
    if found is None:
        return "hallucination"
    return "correct" if found == wanted else "wrong_api"


def find_api(call, catalogue):
    """The `Api` that a call is, or None.

    What counts is the outermost call to a function that the catalogue has: `print(hub.load(...))`
    is `hub.load(...)`. A value without its keyword gets the keyword of its place.
    """
    names = {api.call.name for api in catalogue}
    for one in (call, *call.inner):
        if one.name in names:
            return next((api for api in catalogue if _is_call_of(one, api.call)), None)
    return None


def find_by_substring(call, catalogue):
    """The `Api` that the original's rule finds, to show what is wrong with it; or None.

    The rule: the first entry whose function is called, and all of whose literals, without their
    quotes, stand *somewhere* in the text of that call. (Left out: where no function has the right
    name, the original goes on with whatever part of the code it looked at last.)

    >>> small = Api(parse_api_call("hub.load(model='small')"), "vision")
    >>> find_by_substring(parse_api_call("hub.load(model='small_v2')"), [small]) == small
    True
    >>> find_api(parse_api_call("hub.load(model='small_v2')"), [small]) is None
    True
    """
    for api in catalogue:
        literals = [*api.call.args, *api.call.kwargs.values()]
        for one in (call, *call.inner):
            if one.name == api.call.name and all(v.strip("'\"") in str(one) for v in literals):
                return api
    return None


def _is_call_of(call, wanted):
    """Whether a call is the one in the catalogue, whether or not it names its arguments."""
    n = len(wanted.args)
    unnamed = call.args[n:]
    named = dict(zip(wanted.kwargs, unnamed, strict=False))
    return (
        call.name == wanted.name
        and call.args[:n] == wanted.args
        and len(named) == len(unnamed)
        and not named.keys() & call.kwargs.keys()
        and named | call.kwargs == wanted.kwargs
    )


# --- from text to a tree ------------------------------------------------------------------------
def _end_of_call(text, start):
    """Where the bracket before `start` is closed, brackets in texts apart; None: nowhere."""
    depth = 1
    for found in _SIGN.finditer(text, start):
        sign = found.group()
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        if depth == 0:
            return found.end()
        if depth > MAX_NESTING:
            return None
    return None


def _parsed(source):
    """Python source -> `ApiCall`, or None if it isn't a call."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as about the backslash in '\d'
            tree = ast.parse(source, mode="eval").body
        if not isinstance(tree, ast.Call):  # but perhaps `not(x)`
            return None
        call, *inner = (_call(node) for node in ast.walk(tree) if isinstance(node, ast.Call))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return replace(call, inner=tuple(inner))


def _call(node):
    """ValueError for a keyword that is given twice, which Python refuses too."""
    args, kwargs = [_text(value) for value in node.args], {}
    for keyword in node.keywords:
        if keyword.arg is None:
            args.append(f"**{_text(keyword.value)}")
        elif keyword.arg in kwargs:
            raise ValueError(f"{keyword.arg} is given twice")
        else:
            kwargs[keyword.arg] = _text(keyword.value)
    return ApiCall(_text(node.func), tuple(args), kwargs)


def _text(node):
    """A part of the tree in Python's own spelling; u'a' is 'a'."""
    return ast.unparse(ast.Constant(node.value) if isinstance(node, ast.Constant) else node)
