"""What several test files share: the smoke book, a server and a browser for it; hypothesis without a deadline."""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

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


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Give each of two processes (`make test`) whole files.

    The file that builds the smoke book comes first, the others that visit it last: then it is there.
    """
    order = {"test_site.py": 0}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(str(item.path)))
        if item.path.parent.name == "site":
            order.setdefault(item.path.name, 2)
    items.sort(key=lambda item: order.get(item.path.name, 1))


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
