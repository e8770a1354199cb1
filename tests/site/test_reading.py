"""The entrance and the words: the figure that moves, and links to the glossary with previews."""

import re

import pytest

from press import terms
from press.schematic import figure
from visit import Visit

ROOM = 30_000  # bytes of the figure with its style and its script


def opened(site, browser, page, **options):
    width = options.pop("width", 1280)
    visit = Visit(browser, width, "light", **options)
    visit.page.goto((site / page).as_uri(), wait_until="load")
    return visit


@pytest.mark.parametrize(
    ("word", "sentence", "found"),
    [
        ("teacher", "Teachers learn.", "Teachers"),
        ("teacher", "A teacherless class.", None),
        ("share", "They share a start.", None),
        ("share", "The share of the class column.", "share"),
        ("MNIST", "On MNIST and mnist.", "MNIST"),
        ("REF", "ref", None),
        ("r_specific", "r_specific is high", "r_specific"),
        ("chance", "the chance that it rains", None),
        ("chance", "far above chance", "chance"),
    ],
)
def test_a_use_of_a_word(word, sentence, found):
    match = terms.pattern(word).search(sentence)
    assert (match and match[0]) == found


def test_the_figure_is_light_and_stands_for_its_run():
    html = figure(moving=True)
    found = re.search(
        r"start reads (\d+) of these ten digits, the one with another start (\d+)", html
    )
    assert int(found[1]) > int(found[2])
    assert len(html) < ROOM


@pytest.mark.book
def test_the_figure_moves_once_and_stands_still_on_request(site, browser):
    sizes = [(site / "_static" / name).stat().st_size for name in ("hero.js", "reading.css")]
    assert len(figure(moving=True)) + sum(sizes) <= ROOM
    faint = "nodes => nodes.filter((node) => getComputedStyle(node).opacity < 1).length"
    for options in ({}, {"reduced_motion": "reduce"}, {"java_script_enabled": False}):
        visit = opened(site, browser, "book/intro.html", **options)
        steps = visit.page.locator(".schematic .step")
        assert steps.count() > 20
        if options:
            assert steps.evaluate_all(faint) == 0
            assert not visit.page.locator(".schematic button").is_visible()
        else:
            visit.page.locator(".schematic.playing").wait_for()
            assert steps.evaluate_all(faint) > 0
            animated = (
                "node => node.getAnimations().map((one) => one.effect.getTiming().iterations)"
            )
            assert steps.last.evaluate(animated) == [1]
            visit.page.get_by_role("button", name="Play again").wait_for()
        visit.context.close()
        # a browser without JavaScript gives up on scripts that it had begun to load
        assert "java_script_enabled" in options or not visit.faults


@pytest.mark.book
@pytest.mark.parametrize("width", [390, 1280])
def test_the_entrance_says_what_it_is_and_offers_three_ways(site, browser, width):
    visit = opened(site, browser, "book/intro.html", width=width)
    first = visit.page.locator(".bd-article p").first.inner_text()
    assert first.lower().startswith("subliminal learning")
    ways = visit.page.locator(".sd-card a")
    assert ways.count() == 3
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.context.close()


@pytest.mark.book
def test_chapter_2_opens_with_the_still_figure(site, browser):
    visit = opened(site, browser, "notebooks/02_mnist_replication.html")
    still = visit.page.locator(".schematic")
    assert still.count() == 1
    assert still.locator("button").count() == 0
    assert visit.page.locator(".schematic.playing").count() == 0
    visit.context.close()


@pytest.mark.book
def test_the_figure_is_printed_in_the_colors_of_a_light_page(site, browser):
    color = "node => getComputedStyle(node).getPropertyValue('--student')"
    seen = {}
    for scheme in ("light", "dark"):
        visit = Visit(browser, 1280, scheme)
        visit.page.goto((site / "book/intro.html").as_uri(), wait_until="load")
        seen[scheme] = visit.page.locator(".schematic").evaluate(color)
        visit.page.emulate_media(media="print")
        seen[f"{scheme}, printed"] = visit.page.locator(".schematic").evaluate(color)
        visit.context.close()
    assert seen["light"] != seen["dark"]
    assert seen["light"] == seen["light, printed"] == seen["dark, printed"]


@pytest.mark.book
def test_every_chapter_links_the_words_that_it_uses(site, browser):
    pages = sorted((site / "notebooks").glob("[0-9][0-9]_*.html"))
    assert len(pages) >= 8
    for path in pages:
        links = re.findall(r'<a class="reference internal term" href="([^"]+)"', path.read_text())
        assert len(links) >= 5, path.name
    visit = opened(site, browser, "notebooks/10_geometry_and_training.html")
    for word in ("r_specific", "AUC"):
        assert visit.page.locator("a.term", has_text=word).count() >= 1
    visit.context.close()


@pytest.mark.book
@pytest.mark.parametrize("width", [390, 1280])
def test_a_word_shows_its_entry_on_hover_and_on_focus(site, browser, width):
    visit = opened(site, browser, "notebooks/02_mnist_replication.html", width=width)
    word, note = visit.page.locator("a.term").first, visit.page.locator("#term-note")
    word.scroll_into_view_if_needed()
    assert not note.is_visible()
    word.focus()
    assert note.inner_text() == word.get_attribute("data-preview")
    assert word.get_attribute("aria-describedby") == "term-note"
    box = note.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    visit.page.keyboard.press("Escape")
    assert not note.is_visible()
    word.hover()
    assert note.is_visible()
    visit.page.mouse.move(1, 1)
    note.wait_for(state="hidden")
    visit.context.close()
    assert not visit.faults
