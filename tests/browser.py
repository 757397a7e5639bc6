"""For the tests of the page: a real `studytag serve`, and Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from documentation import REPOSITORY
from playwright.sync_api import Browser, BrowserContext, Page
from service_support import start_server

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
SCREENSHOTS = REPOSITORY / "artifacts" / "page"
PATIENCE = 120.0  # seconds: a busy machine is slow, not wrong


@contextmanager
def serving(folder: Path, bundle: Path | None = None, *options: str) -> Iterator[str]:
    """Run `studytag serve` and yield its address."""
    server = start_server(folder, bundle, *options)
    try:
        yield f"{server.url}/"
    finally:
        server.stop()


@dataclass
class Visit:
    """A browser's visit of the page, with what a visitor cannot see.

    Attributes:
        page: The tab.
        address: Of the server.
        problems: Errors of the script and breaches of the policy.
        elsewhere: Requests to any other server.
        loaded: Bytes of each answer's body, by address.
    """

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    loaded: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: self._console(message.type, message.text))
        self.page.on("request", lambda request: self._request(request.url))
        self.page.on("requestfinished", self._finished)

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.problems.append(text)

    def _request(self, url: str) -> None:
        if not url.startswith((self.address, f"blob:{self.address}")):
            self.elsewhere.append(url)

    def _finished(self, request) -> None:
        sizes = request.sizes()
        self.loaded[request.url] = sizes["responseBodySize"] + sizes["responseHeadersSize"]

    def open(self, fragment: str = "") -> Page:
        """Open the page and wait until it knows the model."""
        self.page.goto(self.address + fragment)
        self.page.locator("#points input").first.wait_for(state="attached")
        return self.page

    def picture(self, name: str) -> None:
        """Keep a screenshot of the whole page, for people."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    def barriers(self) -> list[str]:
        """What axe finds wrong for people with a screen reader, a keyboard or weak sight."""
        found = Axe().run(self.page).response
        assert len(found["passes"]) > 10, "axe has not looked at the page"
        return [
            f"{each['id']} ({each['impact']}): {each['nodes'][0]['html']}"
            for each in found["violations"]
        ]


@contextmanager
def visiting(browser: Browser, address: str, **context: object) -> Iterator[Visit]:
    """A visit in a profile of its own, which must end without problems."""
    profile: BrowserContext = browser.new_context(**context)
    try:
        visit = Visit(profile.new_page(), address)
        yield visit
        assert not visit.problems
        assert not visit.elsewhere
    finally:
        profile.close()
