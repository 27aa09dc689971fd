"""A notebook's picture gets the description that was stored beside it as its alt text.

Every figure of the notebooks also says in words what it shows (`CaptionedFigure` in
`ch07/visualization/`), and Jupyter stores both. A picture without a description is a warning, and
so ends the build.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)


class PictureTexts(SphinxPostTransform):
    """Copies an output's text/plain to the picture, before MyST-NB keeps only one of the two."""

    default_priority = 2  # MyST-NB chooses at 4

    def run(self, **_: Any) -> None:
        """Describe the pictures of one page."""
        for bundle in self.document.findall(nodes.container):
            if bundle.get("nb_element") != "mime_bundle":
                continue
            texts = [part for part in bundle.children if part.get("mime_type") == "text/plain"]
            for picture in bundle.findall(nodes.image):
                if texts:
                    picture["alt"] = texts[0].astext().strip()
        for picture in self.document.findall(nodes.image):
            if not picture.get("alt"):
                logger.warning("a picture without alt text", location=picture, type="alt")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_post_transform(PictureTexts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
