"""The system's Chromium, or else playwright's own."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def launch(playwright: Playwright) -> Browser:
    """Start a browser without a window.

    Raises:
        playwright.sync_api.Error: there is none, or it does not start.
    """
    return playwright.chromium.launch(executable_path=next(filter(None, map(shutil.which, NAMES)), None))
