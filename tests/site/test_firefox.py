"""The smoke book in Firefox: pages without a fault, and explorers that answer. Skipped where there is none."""

import pytest
from firefox import Firefox, find
from test_explorer_pages import PAGES

pytestmark = pytest.mark.book
UNTIL = """new Promise((kept, broken) => {
  const end = performance.now() + 80_000;
  const look = () => (%s) ? kept(true) : performance.now() > end ? kept(false) : setTimeout(look, 100);
  look();
})"""


@pytest.fixture(scope="module")
def firefox(tmp_path_factory):
    path = find()
    if not path:
        pytest.skip("no Firefox found: install it (Debian, Ubuntu: apt install firefox-esr)")
    running = Firefox(path, tmp_path_factory.mktemp("firefox"))
    yield running
    running.close()


def until(firefox, condition):
    assert firefox.evaluate(UNTIL % condition), condition


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", sorted({*PAGES.values(), "book/scorecard.html"}))
def test_a_page_is_in_order(firefox, server, page, width):
    firefox.resize(width, 800)
    firefox.open(f"{server}/{page}")
    until(firefox, "[...document.querySelectorAll('.explorer')].every(one => one.hasAttribute('data-live'))")
    root = "document.documentElement"
    assert firefox.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    assert firefox.faults == []


def test_the_laboratory_trains(firefox, server):
    firefox.resize(1280, 900)
    firefox.open(f"{server}/{PAGES['laboratory']}")
    lab = "document.querySelector('.explorer[data-explorer=laboratory]')"
    until(firefox, f"{lab}?.hasAttribute('data-live')")
    firefox.evaluate(f"{lab}.querySelector('button.primary').click()")
    until(firefox, f"{lab}.querySelector('.line.student:not(.earlier)')")
    until(firefox, f"{lab}.querySelector('button.primary').textContent === 'Pause'")
    assert firefox.faults == []
