"""What several test files share: the smoke book, a server and a browser for it; hypothesis without a deadline."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from hypothesis import settings
from playwright.sync_api import sync_playwright

# A change to the code makes a test fail, never a busy machine or the draw of the day.
settings.register_profile("book", deadline=None, derandomize=True)
settings.load_profile("book")

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(autouse=True)
def same_draws():
    """Start every test from the same state of torch's generator."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def site():
    """Build the smoke book; the folder of its pages."""
    command = [sys.executable, "-m", "press", "book", "--profile", "smoke", "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return ROOT / "_build" / "smoke" / "html"


@pytest.fixture(scope="session")
def server(site):
    """Serve the site on this computer; its address."""
    handler = functools.partial(QuietHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        places = [
            os.environ.get("CHROMIUM"),
            *map(shutil.which, names),
            own if Path(own).exists() else None,
        ]
        if not any(places):
            pytest.skip("no Chromium found: run `make browser`, or set CHROMIUM to its path")
        running = playwright.chromium.launch(executable_path=next(filter(None, places)), args=FLAGS)
        yield running
        running.close()


class Visit:
    """A browser window that cannot reach outside hosts, and notes whatever goes wrong in it."""

    def __init__(self, browser, width, scheme, **options):
        self.context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        self.context.set_default_timeout(90_000)  # a busy machine must not fail a test
        self.faults = []
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on(
            "console",
            lambda said: said.type == "error" and self.faults.append(f"console: {said.text}"),
        )
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        self.page.on(
            "response",
            lambda got: got.status >= 400 and self.faults.append(f"{got.status}: {got.url}"),
        )

    def _route(self, route):
        parts = urlsplit(route.request.url)
        if parts.scheme in ("http", "https") and parts.hostname != "127.0.0.1":
            self.faults.append(f"outside: {route.request.url}")
            route.abort()
        else:
            route.continue_()

    def open(self, address):
        self.page.goto(address, wait_until="load")
        self.page.evaluate("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        return self.page
