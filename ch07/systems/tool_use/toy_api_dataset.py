"""A toy API dataset, like APIBench: a fictional catalogue, and instructions that need its calls.

The one idea: a model that has memorized which call solves which task knows nothing of a new call or
a renamed keyword; a model that has learned to read documentation in its prompt might. So all
instructions of some calls are held out, documents can be added to the prompts, and keywords can be
renamed in them. Knows nothing of models or files.

Source: Patil et al., "Gorilla: Large Language Model Connected with Massive APIs" (2023, arXiv
2305.15334), on its data (ten instructions per API, none with the API's name) and on training with a
retriever. Calls, documents and instructions are this project's own.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ch07.systems.tool_use.api_call_matching import Api, parse_api_call
from ch07.systems.tool_use.bm25 import BM25Retriever
from ch07.systems.tool_use.toy_api_catalogue import CALLS, INSTRUCTION_TEMPLATES
from ch07.utils.errors import InputError

DOCUMENTS = ("none", "oracle", "bm25")
REFERENCE_PREFIX = "Use this API documentation for reference: "  # the paper's words
SEEN_FAMILY = "API seen in training"
UNSEEN_FAMILY = "API never seen"
CALLS_PER_DOMAIN = 4  # the last one is unseen in training: all its instructions are held out
# Which instructions of the other calls are held out, counted from a different start for each call.
TEST_POSITIONS = (0, 6)
VALIDATION_POSITIONS = (2,)


@dataclass(frozen=True)
class Tool:
    """A call of the toolbox, its documentation, and ten instructions that it solves."""

    api: Api
    document: str
    instructions: list[str]


def toolbox(renamed: bool = False) -> list[Tool]:
    """All tools, domain by domain; with `renamed`, each call's keyword has its new name.

    >>> toolbox()[0].document
    'toolbox.resize(width=640) makes a picture or photo smaller. Domain: pictures.'
    >>> str(toolbox(renamed=True)[0].api.call)
    'toolbox.resize(pixels=640)'
    """
    return [_tool(domain, row, renamed) for domain, rows in CALLS.items() for row in rows]


def build_entries(documents: str = "none", renamed: bool = False) -> list[dict[str, str]]:
    """Entries of all tools: instruction, input, output (the call), family, and split if held out.

    `documents` determines the input: empty ("none"), the tool's own document ("oracle"), or the
    document that BM25 retrieves ("bm25"). Two families are held out: new instructions for tools
    seen in training, and all instructions for unseen tools. With `renamed`, the documents and
    answers of the test entries, and only those, have the new keywords.
    """
    if documents not in DOCUMENTS:
        raise InputError(f"no documents {documents!r}; choose one of {', '.join(DOCUMENTS)}")
    entries = _entries(toolbox(), documents)
    if not renamed:
        return entries
    renamed_entries = _entries(toolbox(renamed=True), documents)
    return [
        new if old.get("split") == "test" else old
        for old, new in zip(entries, renamed_entries, strict=True)
    ]


def reference(document: str) -> str:
    """The input of an entry: the document after `REFERENCE_PREFIX`; empty without a document."""
    return REFERENCE_PREFIX + document if document else ""


def catalogue_of(golds: Iterable[str]) -> list[Api]:
    """The catalogue, with old or new keywords, that has all gold calls; ValueError if neither."""
    golds = list(golds)
    catalogues = [[tool.api for tool in toolbox(renamed)] for renamed in (False, True)]
    known = [{str(api.call) for api in apis} for apis in catalogues]
    for apis, calls in zip(catalogues, known, strict=True):
        if calls.issuperset(golds):
            return apis
    unknown = [gold for gold in golds if gold not in known[0] | known[1]]
    if unknown:
        raise InputError(f"the right answer {unknown[0][:60]!r} is not a call of the toolbox")
    raise InputError("the right answers mix old and renamed keywords: score them separately")


def _tool(domain: str, row: tuple[str, str, str, str], renamed: bool) -> Tool:
    source, new_keyword, description, joined_tasks = row
    call = parse_api_call(source)
    assert call is not None, source
    if renamed:
        (value,) = call.kwargs.values()
        call = replace(call, kwargs={new_keyword: value})
    tasks = joined_tasks.split("; ")
    instructions = []
    for i, template in enumerate(INSTRUCTION_TEMPLATES):
        instructions.append(template.format(tasks[i % len(tasks)]))
    return Tool(Api(call, domain), f"{call} {description}. Domain: {domain}.", instructions)


def _entries(tools: Sequence[Tool], documents: str) -> list[dict[str, str]]:
    retriever = BM25Retriever([document_words(tool.document) for tool in tools])
    entries = []
    for number, tool in enumerate(tools):
        for i, instruction in enumerate(tool.instructions):
            document = ""
            if documents == "oracle":
                document = tool.document
            elif documents == "bm25":
                document = tools[retriever.best(document_words(instruction))].document
            entry = {
                "instruction": instruction,
                "input": reference(document),
                "output": str(tool.api.call),
                "family": UNSEEN_FAMILY if _is_unseen(number) else SEEN_FAMILY,
            }
            split = _split(number, i)
            if split is not None:
                entry["split"] = split
            entries.append(entry)
    return entries


def document_words(text: str) -> list[str]:
    """The words that BM25 compares: lower case, without any sign."""
    return re.sub(r"[^\w\s]", "", text.lower()).split()


def _is_unseen(number: int) -> bool:
    """Whether all instructions of a tool are held out."""
    return number % CALLS_PER_DOMAIN == CALLS_PER_DOMAIN - 1


def _split(number: int, i: int) -> str | None:
    """The split of a tool's instruction i; None for training. It varies from tool to tool."""
    if _is_unseen(number):
        return "test"
    position = (i + number) % len(INSTRUCTION_TEMPLATES)
    if position in TEST_POSITIONS:
        return "test"
    if position in VALIDATION_POSITIONS:
        return "validation"
    return None
