"""Finds the Chromium of this machine, which prints pages as PDF and in which they are tested."""

import os
import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")


def find_chromium() -> str | None:
    """The browser's executable: what $CHROMIUM names, or the first that is installed."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    for name in NAMES:
        found = shutil.which(name)
        if found is not None:
            return found
    return None
