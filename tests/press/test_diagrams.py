"""Sketches that open chapters: every one of the file is drawn, within its frame, and said in words."""

import json
import re
from pathlib import Path

import pytest
import yaml

from press.diagrams import WIDTH, draw_arrow, sketch

ROOT = Path(__file__).resolve().parents[2]
SKETCHES = yaml.safe_load((ROOT / "book" / "diagrams.yml").read_text(encoding="utf8"))


def room_of(words):
    """Width of a text at 12 px, bold where it has a color."""
    return len(words["text"]) * (7.4 if words.get("look") else 6.8)


def used():
    """Names that chapters ask for."""
    names = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
            names += re.findall(r"```\{schematic\} (\w+)", "".join(cell["source"]))
    return names


def test_every_sketch_opens_a_chapter_and_every_chapter_finds_its_own():
    assert sorted(used()) == sorted(SKETCHES)


@pytest.mark.parametrize("name", SKETCHES)
def test_a_sketch_stays_in_its_frame(name):
    for panel in SKETCHES[name]["panels"]:
        places = [item["at"] for kind in ("dots", "texts") for item in panel.get(kind, [])]
        places += [line[end] for kind in ("lines", "arrows") for line in panel.get(kind, []) for end in ("from", "to")]
        for box in panel.get("boxes", []):
            (x, y), (width, height) = box["at"], box["size"]
            places += [(x, y), (x + width, y + height)]
            assert room_of(box) <= width
        for words in panel.get("texts", []):
            (x, _), room = words["at"], room_of(words)
            left = x if words.get("begins") else x - room / 2
            assert left >= 0 and left + room <= WIDTH
        assert all(0 <= x <= WIDTH and 0 <= y <= panel["height"] for x, y in places)


def test_words_are_escaped_and_said_aloud():
    described = {"caption": "A <b>word</b>.", "alt": 'A "quoted" <sketch>.', "panels": []}
    described["panels"] = [{"title": "1 < 2", "height": 20, "texts": [{"at": [1, 2], "text": "a < b"}]}]
    html = sketch("one", {"one": described})
    assert "a &lt; b" in html and "1 &lt; 2" in html
    assert 'aria-label="A &quot;quoted&quot; &lt;sketch&gt;."' in html


def test_an_arrow_ends_where_it_should():
    assert 'points="10.0,0.0' in draw_arrow({"from": [0, 0], "to": [10, 0]})


def test_a_name_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(ValueError, match=r"no sketch is called 'moon'; book/diagrams\.yml has linear"):
        sketch("moon", SKETCHES)
