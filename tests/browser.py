"""Pages as a reader has them: opened from a disk in the system's Chromium, with all it complains
about."""

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import sync_playwright

DESKTOP, PHONE, A4 = (1280, 900), (390, 844), (794, 1123)


@contextmanager
def chromium():
    """Chromium as Debian packages it. Playwright's own would be a download; where there is none,
    this is an error."""
    path = shutil.which("chromium")
    assert path, "chromium is missing: apt-get install chromium"
    sandboxed = os.geteuid() != 0  # Chromium refuses its sandbox to root
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, chromium_sandbox=sandboxed)
        yield opened
        opened.close()


@dataclass
class Opened:
    """A page with what it said on the console, what failed in it, and what it asked for."""

    page: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened(browser, path, size=DESKTOP, scheme="light"):
    """Open a page on a screen of a size, without a network."""
    context = browser.new_context(
        viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme
    )
    context.set_offline(True)
    found = Opened(context.new_page())
    found.page.on("console", lambda message: found.complaints.append(message.text))
    found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.goto(f"file://{path}")
    yield found
    context.close()
