"""What stands around the pages: the edition, the wheel and its first cell, figures on dark pages, narrow code."""

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

from press import furniture, launch, narrow, pdf, pictures, sections
from press.edition import Edition, bibtex, edition
from press.runner import Project, read_notebook

ROOT = Path(__file__).resolve().parents[2]
THIS = Edition("A title", ["The authors"], "0.1.0", "0.1.0-3-gabc", 1735689600)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) \(", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert project["version"] == citation["version"] == newest == edition(ROOT).release
    assert set(citation["license"]) == set(project["license"].split(" AND "))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_date_is_told_or_that_of_the_commit_and_never_the_clocks(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert str(edition(ROOT).date) == "1970-01-02"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    for name in ("CITATION.cff", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    newest = re.search(r"\((\d{4}-\d\d-\d\d)\)", (ROOT / "CHANGELOG.md").read_text())[1]
    assert str(edition(tmp_path).date) == newest
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    dated = os.environ | {"GIT_COMMITTER_DATE": "2020-02-03T00:00:00Z"}
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        [*identity, "commit", "-qm", "a"],
        ["tag", "v9.8.7"],
    ):
        subprocess.run(["git", "-C", tmp_path, *arguments], env=dated, check=True)
    assert str(edition(tmp_path).date) == "2020-02-03"
    assert edition(tmp_path).version == "9.8.7"


def test_the_entry_for_a_bibliography():
    entry = bibtex(THIS, "https://example.org/book")
    assert entry.count("{") == entry.count("}")
    for piece in (
        "{{The authors}}",
        "{2025}",
        "Version 0.1.0-3-gabc, 2025-01-01",
        "https://example.org/book",
    ):
        assert piece in entry
    assert "url" not in bibtex(THIS)


def test_rules_of_the_contributing_guide_are_tests():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) >= 12
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file} holds no {test}"


def test_every_chapter_has_goals():
    goals = yaml.safe_load((ROOT / "book" / "goals.yml").read_text())
    for path in NOTEBOOKS:
        assert 1 <= len(goals[path.stem[:2]]) <= 4


# Launch


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    staging = folder / "staging"
    staging.mkdir()
    return launch.wheel(ROOT, staging, folder / "dist")


def test_the_wheel_holds_the_library_its_scripts_and_the_tables(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = f"{launch.CARRIER}/lib/sublearn"
    assert {
        "sublearn/__init__.py",
        f"{inside}/core/store.py",
        f"{inside}/explorers/js/dist/page.js",
    } <= names
    assert f"{launch.CARRIER}/book/reference/claims.csv" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_first_cell_leaves_an_installed_book_alone():
    source = "".join(launch.first_cell(THIS, "")["source"])
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("site", ["", "https://example.org/book/"])
def test_the_first_cell_pins_the_version_and_finds_the_wheel(site):
    cell = launch.first_cell(THIS, site)
    source = "".join(cell["source"])
    ast.parse(source)
    assert "subliminal-learning-book==0.1.0" in source
    assert ("https://example.org/book/downloads/" in source) == bool(site)
    text = launch.alone((ROOT / "notebooks" / "template" / "chapter.ipynb").read_text(), cell)
    kinds = [each["cell_type"] for each in json.loads(text)["cells"][:3]]
    assert kinds == ["markdown", "code", "code"]


def test_a_downloaded_notebook_runs_where_the_book_is_not(wheel, tmp_path):
    """An empty environment: pip takes the book from its wheel; what it needs is this one's, to spare a download."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    (place,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    others = tmp_path / "others"
    others.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "subliminal" not in path.name:  # pip must not find the editable install
            (others / path.name).symlink_to(path)
    (place / "others.pth").write_text(f"{others}\n")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))
    }
    environment |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    environment |= {
        "SUBLIMINAL_CACHE": str(tmp_path / "cache"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    name = "01_toy_linear_theory"
    smoke = yaml.safe_load((ROOT / "profiles.yml").read_text())["smoke"]["notebooks"][name]
    notebook = json.loads(
        launch.alone(
            (ROOT / "notebooks" / f"{name}.ipynb").read_text(), launch.first_cell(edition(ROOT), "")
        )
    )
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] += [f"\n{key} = {value!r}" for key, value in smoke.items()]
    check = "import sublearn.core.store as s; print(s.ROOT)"
    notebook["cells"].append({"cell_type": "code", "id": "last", "metadata": {}, "outputs": [], "execution_count": None,
                              "source": [check]})  # fmt: skip
    (tmp_path / "alone.ipynb").write_text(json.dumps(notebook))
    absent = subprocess.run(
        [python, "-c", "import sublearn"], capture_output=True, env=environment, cwd=tmp_path
    )
    assert absent.returncode != 0
    command = [python, "-m", "IPython", "--no-banner", "--colors=NoColor", "alone.ipynb"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "Error" not in done.stdout + done.stderr, (done.stdout + done.stderr)[-3000:]
    assert done.stdout.splitlines()[-1] == str(place / launch.CARRIER)


def test_hubs_are_named_only_where_the_repository_is_on_one():
    assert launch.places("", "gh-pages", THIS, "02_a") == {}
    assert launch.places("https://example.org/a/b", "gh-pages", THIS, "02_a") == {}
    found = launch.places("https://github.com/a/b/", "gh-pages", THIS, "02_a")
    assert found["Colab"].endswith("/github/a/b/blob/gh-pages/_sources/notebooks/02_a.ipynb")
    assert found["Binder"].endswith("/gh/a/b/v0.1.0?urlpath=lab/tree/notebooks/02_a.ipynb")


def test_containers_use_the_same_python_and_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (ROOT / ".binder" / "runtime.txt").read_text().strip() == "python-3.11"
    assert project["requires-python"].startswith(">=3.11")
    assert (ROOT / ".binder" / "requirements.txt").read_text().strip() == "-r ../requirements.txt"
    assert os.access(ROOT / ".binder" / "postBuild", os.X_OK)
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    targets = container["postCreateCommand"].removeprefix("make ").split()
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


# Figures


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    figure, ax = plt.subplots(figsize=(7, 3))
    ax.plot([0, 1], color="#0173b2")
    ax.text(0.5, 0.5, "words", size=7)
    path = tmp_path_factory.mktemp("svg") / "a.svg"
    figure.savefig(path)
    plt.close(figure)
    return path.read_text()


def test_a_figure_gets_partners_for_dark_pages(drawn):
    svg = pictures.themed(drawn)
    ElementTree.fromstring(svg)
    assert svg.count("prefers-color-scheme") == 1
    assert pictures.themed(svg) == svg
    for use, color in set(pictures.DRAWN.findall(drawn)):
        assert f'[style*="{use}: {color}"]' in svg


@pytest.mark.parametrize(
    "color",
    ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#262626", "#595959", "#000000"],
)
def test_colors_can_be_read_on_dark_pages(color):
    assert pictures.contrast(pictures.on_dark(color), pictures.PAPER) >= 4.5


def test_gray_stays_gray_and_white_becomes_the_page():
    red, green, blue = re.findall("..", pictures.on_dark("#8c8c8c")[1:])
    assert red == green == blue
    assert pictures.on_dark("#ffffff") == pictures.PAPER


def test_faint_bands_can_be_seen_on_dark_pages():
    band = '<svg width="9pt"><path style="fill: #0173b2; opacity: 0.18; stroke: #0173b2"/></svg>'
    assert '[style*="; opacity: 0.18"]{opacity:0.4!important}' in pictures.themed(band)


def test_maps_of_colors_keep_their_sheet(drawn):
    mapped = drawn.replace("</svg>", "<image/></svg>")
    assert pictures.is_map(mapped)
    assert pictures.themed(mapped) == mapped


def test_the_narrowest_width_leaves_letters_of_8_pixels(drawn):
    size = pictures.extent(drawn)
    smallest = 7 * pictures.PIXELS
    assert abs(size.width - 7 * 96) <= 1
    assert smallest * size.narrowest / size.width >= 8 - 1e-9
    assert smallest * (size.narrowest - 2) / size.width < 8


# Code on a page


def test_code_is_narrow_and_means_the_same():
    beyond = 0
    for path in NOTEBOOKS:
        notebook = read_notebook(path)
        before = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        narrow.narrow(notebook)
        after = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for old, new in zip(before, after, strict=True):
            # a `del` of many names in brackets is another tree of the same meaning
            assert "del " in old or ast.dump(ast.parse(old)) == ast.dump(ast.parse(new))
            beyond += sum(len(line) > narrow.COLUMNS for line in new.splitlines())
    assert (
        beyond <= 25
    )  # lists of words in quotes that are split, docstrings: they go on in the next line


def test_texts_and_comments_are_cut_between_words():
    text = "word " * 30
    source = f'show(\n    caption="{text}",\n    alt=f"{text}{{value + 1}} {text}",\n)\n# {text}end'
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "id": "a",
                "metadata": {},
                "execution_count": None,
                "source": source,
            }
        ]
    }
    narrow.narrow(notebook)
    (cell,) = notebook["cells"]
    assert all(len(line) <= narrow.COLUMNS for line in cell["source"].splitlines())
    assert ast.dump(ast.parse(cell["source"])) == ast.dump(ast.parse(source))


# Around a chapter

PAGE = """<h1>A</h1><figure class="align-default" id="fig-one">
<img alt="A line" src="../_images/x.svg" />
<figcaption>
<p>It rises.</p>
</figcaption>
</figure><table id="T_two" class="dataframe"><caption>Two.</caption></table>"""


def copy_of(svg):
    figure = {
        "output_type": "display_data",
        "metadata": {"sublearn": {"name": "fig:one"}},
        "data": {"image/svg+xml": svg},
    }
    table = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/html": PAGE.partition("</figure>")[2]},
    }
    return {"cells": [{"id": "abc", "outputs": [figure]}, {"id": "def", "outputs": [table]}]}


@pytest.mark.parametrize("kept", [True, False])
def test_under_a_figure_and_a_table_stand_data_and_code(tmp_path, drawn, kept):
    chapter = furniture.Chapter(Project(tmp_path, "smoke"), "02_a", "../")
    tables = chapter.project.results("02_a").with_suffix("")
    tables.mkdir(parents=True)
    if kept:
        for stem in ("one", "two"):
            (tables / f"{stem}.csv").write_text("a\n1\n")
    copy = copy_of(drawn)
    body = furniture.with_figure_lines(PAGE, furniture.figures_of(copy), chapter)
    body = furniture.with_table_lines(body, chapter)
    assert ("../downloads/02_a/one.csv" in body) == ("../downloads/02_a/two.csv" in body) == kept
    assert 'href="#cell-abc"' in body
    assert "--narrowest: " in body
    assert furniture.tables_of(copy) == {"two": "Two."}


def test_claims_are_strips_with_their_table_folded_behind(tmp_path):
    claims = pd.read_csv(ROOT / "book/reference/claims.csv").query("chapter == 3").head(3)
    said = claims.claim + " (" + claims.id + ", " + claims.source + ")"
    table = pd.DataFrame({"claim": said, "verdict": "undecided"}).style.hide(axis="index")
    html = table.to_html(table_uuid="three", table_attributes='class="dataframe"')
    chapter = furniture.Chapter(Project(profile="smoke"), "03_strength", "../")
    body = furniture.with_table_lines(html, chapter)
    assert body.count('<span class="verdict"') == 3
    assert (
        body.index('class="scorecard-table"') < body.index("<details") < body.index('id="T_three"')
    )
    for name in claims.id:
        assert f'<span class="small">{name}, ' in body


def test_a_list_tells_tables_of_claims_apart_and_code_is_code(tmp_path):
    said = {"own": ["A (X-1, this book)"], "others": ["B (Y-1, Doe 2025)"]}
    outputs = []
    for name, claims in said.items():
        table = pd.DataFrame({"claim": claims, "verdict": "undecided"}).style.hide(axis="index")
        html = table.to_html(table_uuid=name, table_attributes='class="dataframe"')
        outputs.append({"data": {"text/html": html}})
    plain = '<table id="T_plain" class="dataframe"><caption>By `run`.</caption></table>'
    outputs.append({"data": {"text/html": plain}})
    titles = furniture.tables_of({"cells": [{"id": "abc", "outputs": outputs}]})
    assert titles["own"] == "Predictions of this book and their verdicts."
    assert titles["others"] == "Published claims and their verdicts."
    assert titles["plain"] == "By run."
    chapter = furniture.Chapter(Project(tmp_path, "smoke"), "02_a", "../")
    assert "By <code>run</code>." in furniture.with_table_lines(plain, chapter)


def test_archives_repeat(tmp_path):
    project = Project(tmp_path, "smoke")
    (tmp_path / "_build/results/smoke/02_a").mkdir(parents=True)
    (tmp_path / "_build/executed/smoke").mkdir(parents=True)
    (tmp_path / "_build/results/smoke/02_a/one.csv").write_text("a\n1\n")
    (tmp_path / "_build/executed/smoke/02_a.ipynb").write_text("{}")
    made = []
    for name in ("first", "second"):
        furniture.put_downloads(project, tmp_path / name)
        made.append((tmp_path / name / "downloads/results.zip").read_bytes())
        assert (tmp_path / name / "downloads/02_a.ipynb").exists()
        assert (tmp_path / name / "downloads/02_a/one.csv").exists()
    assert made[0] == made[1]


def test_addresses_in_the_whole_book(tmp_path):
    (tmp_path / "notebooks").mkdir()
    article = '<article class="bd-article"><h1 id="a">A</h1>{}</article>'
    inside = (
        '<a href="#a">up</a><a href="../intro.html">in</a><a href="../intro.html#a">there</a>'
        '<img src="../_images/x.svg">'
        '<a href="https://example.org">out</a><details class="admonition hide above-input"><p>x</p></details>'
    )
    (tmp_path / "notebooks/one.html").write_text(article.format(inside))
    text = pdf.article_of(tmp_path, "notebooks/one.html", ["intro.html", "notebooks/one.html"])
    for piece in ('id="one--a"', 'href="#one--a"', 'href="#intro"', 'href="#intro--a"', 'src="_images/x.svg"',
                  'href="https://example.org"'):  # fmt: skip
        assert piece in text
    assert "details" not in text


def test_sections_have_their_own_text():
    from docutils.core import publish_doctree

    doctree = publish_doctree("Title\n=====\n\nFirst words.\n\nPart\n----\n\nOther words.\n\nMore\n----\n\nLast.\n",
                              settings_overrides={"doctitle_xform": False})  # fmt: skip
    found = list(sections.sections_of(doctree, "book/x"))
    assert [(each.title, each.text) for each in found] == [
        ("Title", "First words."), ("Part", "Other words."), ("More", "Last.")]  # fmt: skip
    assert found[1].address == "book/x.html#part"
    assert {each.page for each in found} == {"Title"}
