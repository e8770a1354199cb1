"""Slides: made of the smoke book's executed chapters, each within its screen, without a network."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

from press import slides
from press.runner import PressError, Project

ROOT = Path(__file__).resolve().parents[2]
REVEAL = ROOT / "_build/slides/reveal"
# Every slide in turn: how far what it holds reaches beyond the slide's own room, in pixels.
BEYOND = """async () => {
  const { width, height } = Reveal.getConfig(), beyond = [];
  for (const [place] of Reveal.getSlides().entries()) {
    Reveal.slide(place);
    await new Promise(done => setTimeout(done, 30));
    const slide = Reveal.getCurrentSlide();
    const wide = Math.max(0, ...[...slide.querySelectorAll("*")].map(part => part.scrollWidth));
    beyond.push(Math.max(slide.scrollHeight - height, wide - width));
  }
  return beyond;
}"""


@pytest.fixture(scope="module")
def talks(site, tmp_path_factory):
    """The slides of the smoke book beside reveal.js, in a folder of their own."""
    if not REVEAL.exists():
        pytest.skip("no reveal.js: run `make slides` once, with a network")
    written = slides.write(Project(profile="smoke"), [])
    folder = tmp_path_factory.mktemp("slides")
    shutil.copytree(REVEAL, folder / "reveal")
    for path in written:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def address(talks):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=talks)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_each_slide_fits_its_screen_and_loads_nothing_from_outside(talks, address, browser):
    for size in ({"width": 1280, "height": 720}, {"width": 1024, "height": 768}):
        page = browser.new_page(viewport=size)
        asked, faults = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("pageerror", lambda error, faults=faults: faults.append(str(error)))
        for path in sorted(talks.glob("*.html")):
            page.goto(f"{address}/{path.name}")
            page.wait_for_function("window.Reveal && Reveal.isReady()")
            beyond = page.evaluate(BEYOND)
            assert len(beyond) >= 4, path.name
            assert max(beyond) <= 0, (path.name, beyond)
        assert not faults
        assert all(url.startswith((address, "data:")) for url in asked)
        page.close()


def test_slides_hold_figures_and_the_numbers_of_the_run(talks):
    text = (talks / "02_mnist_replication.html").read_text(encoding="utf8")
    assert text.count('<img class="figure"') >= 5
    assert "{glue" not in text and "{numref" not in text and "{doc" not in text
    value = slides.numbers(Project(profile="smoke"), "02_mnist_replication")["ref_student_aux"]
    assert f"{value:.2f}" in text


def test_a_long_list_is_dealt_out_over_slides():
    items = [f"* {'word ' * 40}{number}\n" for number in range(7)]
    shown = [*slides.points("Before.\n\n" + "".join(items) + "\nAfter.")]
    assert len(shown) == 3
    assert "".join(shown).count("* ") == 7
    assert "After" not in shown[-1]
    assert all(len(part) <= slides.ROOM for part in shown)


def test_no_executed_chapter_is_said_in_a_sentence(tmp_path):
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(PressError, match="no chapter of profile 'laptop' has run: `make run` first"):
        slides.write(Project(tmp_path), [])
