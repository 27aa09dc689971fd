"""The book's configuration for Sphinx; `make docs` builds it in both languages.

The source folder is the repository itself, so that a link from a page to a notebook is the same
link on GitHub, in an editor and here. BOOK_LANGUAGE=zh-CN in the environment chooses the Chinese
pages.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "extensions")]

from languages import CHINESE, ENGLISH  # noqa: E402

from ch07 import __version__  # noqa: E402

book = CHINESE if os.environ.get("BOOK_LANGUAGE") == "zh-CN" else ENGLISH

project = book.title
author = "the project's contributors"
copyright = "the project's contributors, Apache-2.0"
release = __version__
language = book.sphinx_language
root_doc = book.home
include_patterns = list(book.pages)
exclude_patterns = [".venv*", "build", "runs", "ch07", "tests", "benchmarks", "**/.*"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "catalogue",
    "chinese_search",
    "docstrings",
    "languages",
    "local_math",
    "picture_texts",
]

# Notebooks appear as they are stored; building the book runs none of their cells.
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # else every page would ask two other hosts for scripts
nb_merge_streams = True
myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# Docstrings are plain text with `code` in single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
add_module_names = False
python_display_short_literal_types = True
viewcode_line_numbers = True

templates_path = [str(Path(__file__).parent / "templates")]
html_static_path = [str(Path(__file__).parent / "static")]
html_css_files = ["book.css"]
html_js_files = ["search_on_disk.js", ("catalogue.js", {"defer": "defer"})]
html_context = {"default_mode": "auto"}  # light or dark, as the system is
html_theme = "sphinx_book_theme"
html_title = book.title
html_copy_source = False
html_domain_indices = False  # a list of seven modules helps nobody
html_show_sourcelink = False
html_last_updated_fmt = None
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": True,
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "home_page_in_toc": True,
    "article_header_end": ["language-switch.html", "article-header-buttons.html"],
    "navbar_persistent": [],
}
pygments_style = "a11y-high-contrast-light"
