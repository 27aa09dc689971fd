"""A fictional catalogue of calls, and instructions that ask for them: APIBench in a nutshell.

The one idea: a model that learned which call answers which wish knows nothing of a call that is
new, or whose keyword was renamed last night; one that learned to read the documentation beside the
question might. So some calls are held out whole, documents can be put beside the instructions, and
a keyword can be renamed in them. Knows nothing of models or files.

Source: Patil et al., "Gorilla: Large Language Model Connected with Massive APIs" (2023, arXiv
2305.15334), on its data (ten instructions for each API, none with the API's name) and on training
with a retriever. Calls, documents and instructions are this project's own.
"""

from dataclasses import dataclass, replace

from ch07.data.near_duplicates import normalised
from ch07.systems.tool_use.api_call_matching import Api, parse_api_call
from ch07.systems.tool_use.bm25 import BM25Retriever
from ch07.systems.tool_use.toy_api_catalogue import CALLS, FRAMES

DOCUMENTS = ("none", "oracle", "bm25")
REFERENCE = "Use this API documentation for reference: "  # the paper's words
SEEN = "API seen in training"
NEW = "API never seen"
EACH = 4  # calls of a domain, of which the last is held out whole
TEST = (0, 6)
VALIDATION = (2,)  # instructions of the other calls that are held out


@dataclass(frozen=True)
class Tool:
    """A call of the toolbox, with what is said of it and ten instructions that ask for it."""

    api: Api
    document: str
    instructions: list


def toolbox(renamed=False):
    """All tools, domain by domain; with `renamed`, each call's keyword has another name.

    >>> toolbox()[0].document
    'toolbox.resize(width=640) makes a picture or photo smaller. Domain: pictures.'
    >>> str(toolbox(renamed=True)[0].api.call)
    'toolbox.resize(pixels=640)'
    """
    return [_tool(domain, row, renamed) for domain, rows in CALLS.items() for row in rows]


def build_entries(documents="none", renamed=False):
    """Entries of all tools: instruction, input, output (the call), family, and split if held out.

    `documents` says what stands in the input: nothing ("none"), the tool's own document ("oracle")
    or the one that BM25 finds ("bm25"). Two families are held out: new instructions for tools that
    are seen in training, and all instructions for tools that are not. With `renamed`, keywords are
    new in the documents and answers of the test entries, and only there.
    """
    if documents not in DOCUMENTS:
        raise ValueError(f"no documents {documents!r}; choose one of {', '.join(DOCUMENTS)}")
    old = _entries(toolbox(), documents)
    if not renamed:
        return old
    new = _entries(toolbox(renamed=True), documents)
    return [b if a.get("split") == "test" else a for a, b in zip(old, new, strict=True)]


def reference(document):
    """What is put beside an instruction: the document, announced; nothing for an empty one."""
    return REFERENCE + document if document else ""


def catalogue_of(golds):
    """The catalogue that right answers are of, as it is or renamed; ValueError if of neither."""
    catalogues = [[tool.api for tool in toolbox(renamed)] for renamed in (False, True)]
    known = [{str(api.call) for api in apis} for apis in catalogues]
    for apis, calls in zip(catalogues, known, strict=True):
        if calls.issuperset(golds):
            return apis
    unknown = [gold for gold in golds if gold not in known[0] | known[1]]
    if unknown:
        raise ValueError(f"the right answer {unknown[0][:60]!r} is no call of the toolbox")
    raise ValueError("the right answers mix old keywords with renamed ones: judge them apart")


def _tool(domain, row, renamed):
    text, new_keyword, does, wishes = row
    call = parse_api_call(text)
    if renamed:
        (value,) = call.kwargs.values()
        call = replace(call, kwargs={new_keyword: value})
    wishes = wishes.split("; ")
    instructions = [frame.format(wishes[i % len(wishes)]) for i, frame in enumerate(FRAMES)]
    return Tool(Api(call, domain), f"{call} {does}. Domain: {domain}.", instructions)


def _entries(tools, documents):
    retriever = BM25Retriever([_words(tool.document) for tool in tools])
    entries = []
    for number, tool in enumerate(tools):
        for i, instruction in enumerate(tool.instructions):
            beside = {"none": "", "oracle": tool.document}.get(documents)
            if beside is None:
                beside = tools[retriever.best(_words(instruction))].document
            entry = {"instruction": instruction, "input": reference(beside)}
            entry |= {"output": str(tool.api.call), "family": NEW if _is_new(number) else SEEN}
            split = _split(number, i)
            entries.append(entry if split is None else entry | {"split": split})
    return entries


def _words(text):
    return normalised(text).split()


def _is_new(number):
    return number % EACH == EACH - 1


def _split(number, i):
    """All instructions of a new tool are for testing; of the others, tool by tool, other ones."""
    if _is_new(number):
        return "test"
    turn = (i + number) % len(FRAMES)
    return "test" if turn in TEST else "validation" if turn in VALIDATION else None
