"""The table of timings: what profiles.yml expects beside what this machine has measured."""

import json
import re

from press.runner import Project
from press.timings import table


def a_project(folder, seconds):
    (folder / "notebooks").mkdir()
    for name in ("01_a", "02_b"):
        cell = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": [f"# Chapter {name}\n", "text"]}
        (folder / f"notebooks/{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    profiles = {"smoke": {"seconds": {"01_a": 5, "02_b": 7}}, "laptop": {"seconds": {"01_a": 60}}}
    (folder / "profiles.yml").write_text(json.dumps(profiles))
    times = Project(folder, "laptop").private("times.json")
    times.parent.mkdir(parents=True)
    times.write_text(json.dumps(seconds))
    return Project(folder)


def test_each_chapter_has_what_is_expected_and_what_was_measured(tmp_path):
    rows = re.findall(r"<tr>(<td>.*?)</tr>", table(a_project(tmp_path, {"01_a": 43.6})))
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    assert cells == [
        ["Chapter 01_a", "5 s", "–", "60 s", "44 s"],
        ["Chapter 02_b", "7 s", "–", "–", "–"],
        ["all, one after the other", "12 s", "–", "60 s", "–"],
    ]
