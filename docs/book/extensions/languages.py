"""The two languages of the book: what belongs to each, and how a page finds its counterpart.

English and Chinese are two builds, so that each has its own search and its own words around the
text. A link from one language to a page that exists in the other alone leads over there.
"""

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Book:
    """One language's build."""

    folder: str  # below the book's output folder; also the language's name in HTML
    sphinx_language: str
    title: str
    home: str  # the first page, without its ending
    pages: tuple[str, ...]  # patterns of files, from the repository's root


ENGLISH = Book(
    folder="en",
    sphinx_language="en",
    title="Instruction fine-tuning by hand",
    home="docs/book/index",
    pages=(
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/book/**.md",
        "docs/explanations/*.md",
        "docs/guides/*.md",
        "docs/reference/**.md",
        "docs/results/*.md",
        "notebooks/*.ipynb",
    ),
)
CHINESE = Book(
    folder="zh-CN",
    sphinx_language="zh_CN",
    title="手写指令微调",
    home="docs/zh-CN/book/index",
    pages=("README.zh-CN.md", "docs/zh-CN/*/*.md", "notebooks/zh-CN/*.ipynb"),
)


def counterpart(page: str) -> str:
    """The page of the same content in the other language, whether or not it exists.

    >>> counterpart("docs/guides/export")
    'docs/zh-CN/guides/export'
    >>> counterpart("notebooks/zh-CN/03_data_loaders")
    'notebooks/03_data_loaders'
    """
    if page == "README":
        return "README.zh-CN"
    if page == "README.zh-CN":
        return "README"
    folder, _, rest = page.partition("/")
    if rest.startswith("zh-CN/"):
        return f"{folder}/{rest.removeprefix('zh-CN/')}"
    return f"{folder}/zh-CN/{rest}"


def other_book(language: str) -> Book:
    """The book in the language that isn't this one (as Sphinx names it)."""
    return ENGLISH if language == CHINESE.sphinx_language else CHINESE


def is_page(page: str) -> bool:
    """Whether a page, named without its ending, exists in the repository."""
    return any((ROOT / f"{page}{ending}").is_file() for ending in (".md", ".ipynb"))


def address_of(page: str, book: Book, seen_from: str) -> str:
    """The relative address of a page of a book, for a page of the other book."""
    to_the_top = "../" * (seen_from.count("/") + 1)
    return f"{to_the_top}{book.folder}/{page}.html"


class LinksToOtherPages(SphinxTransform):
    """Turns a link to a page that this build lacks into a link to the other language's build."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Replace such links in one page."""
        here = self.env.docname
        for link in list(self.document.findall(pending_xref)):
            page = link["reftarget"]
            if link.get("refdomain") != "doc" or page in self.env.found_docs:
                continue
            address = page_address(page, here, self.config.language, self.config.root_doc)
            if address is None:
                continue  # Sphinx says that there is no such page
            fragment = link.get("reftargetid")
            if fragment:
                address += f"#{fragment}"
            link.replace_self(nodes.reference("", "", *link.children, refuri=address))


def page_address(page: str, seen_from: str, language: str, home: str) -> str | None:
    """The relative address of a page that this language's build lacks; None if nobody has it.

    The lists of all pages (docs/README.md) are the home pages here.
    """
    other = other_book(language)
    of_this_book = "docs/README" if other is CHINESE else "docs/zh-CN/README"
    if page == of_this_book:
        return posixpath.relpath(home, posixpath.dirname(seen_from) or ".") + ".html"
    if page in ("docs/README", "docs/zh-CN/README"):
        return address_of(other.home, other, seen_from)
    return address_of(page, other, seen_from) if is_page(page) else None


def add_switch(app: Sphinx, page: str, _: str, context: dict[str, Any], __: Any) -> None:
    """Give the page's template the address of the same page in the other language."""
    other = other_book(app.config.language)
    twin = counterpart(page)
    exists = is_page(twin) and twin not in ("docs/README", "docs/zh-CN/README")
    context["switch_address"] = address_of(twin if exists else other.home, other, page)
    context["switch_is_exact"] = exists
    context["switch_language"] = other.folder


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_transform(LinksToOtherPages)
    app.connect("html-page-context", add_switch)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
