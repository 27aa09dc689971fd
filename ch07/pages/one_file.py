"""Joins a page's HTML, style sheets, scripts and data into one file that loads nothing else.

A page is a folder beside this file. Its `page.html` is written as any web page is, with
`<link rel="stylesheet" href="...">` and `<script src="..."></script>`; here their content takes
their place. The file then works from a disk, a USB stick or a server, with the network off.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from ch07.utils.errors import InputError

PAGES = Path(__file__).parent
STYLE = re.compile(r'<link rel="stylesheet" href="([^"]+)">')
SCRIPT = re.compile(r'<script src="([^"]+)"></script>')
CHARSET = '<meta charset="utf-8">'


def one_file_page(
    name: str,
    data: Mapping[str, object] | None = None,
    *,
    connect: str = "'none'",
    workers: str = "'none'",
) -> str:
    """The page `ch07/pages/NAME/page.html` as one HTML text.

    Each item of `data` becomes a block `<script type="application/json" id=KEY>` that the page's
    scripts read with `JSON.parse`. A content security policy lets the browser run these scripts and
    apply these styles alone, by their hashes, connect to what `connect` names alone, and start
    workers from what `workers` names alone: "blob:" for text that the page's own scripts put there.
    """
    folder = PAGES / name
    page = (folder / "page.html").read_text(encoding="utf-8")
    styles = [_text(folder, address) for address in STYLE.findall(page)]
    scripts = [_text(folder, address) for address in SCRIPT.findall(page)]
    page = STYLE.sub(lambda found: f"<style>{_text(folder, found[1])}</style>", page)
    page = SCRIPT.sub(lambda found: f"<script>{_text(folder, found[1])}</script>", page)
    page = page.replace(CHARSET, CHARSET + _policy(styles, scripts, connect, workers), 1)
    return page.replace("</head>", _data_blocks(data or {}) + "</head>", 1)


def _text(folder: Path, address: str) -> str:
    return (folder / address).read_text(encoding="utf-8")


def _policy(styles: list[str], scripts: list[str], connect: str, workers: str) -> str:
    rules = [
        "default-src 'none'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        f"style-src {_hashes(styles)}",
        f"script-src {_hashes(scripts)}",
        f"connect-src {connect}",
        f"worker-src {workers}",
    ]
    return f'\n<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}">'


def _hashes(texts: list[str]) -> str:
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests) or "'none'"


def _data_blocks(data: Mapping[str, object]) -> str:
    r"""The data as JSON in which no text can end the block or open a tag.

    Half a character (a lone surrogate), which UTF-8 doesn't have, is escaped: "\udce9". InputError
    for NaN and infinities, which JSON doesn't have: no browser could read the page.
    """
    blocks = []
    for key, value in data.items():
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except ValueError:
            raise InputError(
                f"the data of the page ({key}) hold a number that is not finite, which a page "
                "can't show"
            ) from None
        text = text.replace("<", "\\u003c")
        text = text.encode(errors="backslashreplace").decode()
        blocks.append(f'<script type="application/json" id="{key}">{text}</script>\n')
    return "".join(blocks)
