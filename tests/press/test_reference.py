"""Reference results are kept with what made them, told from stale ones, compared and shown."""

import base64
import html.parser
import json
import re
from types import SimpleNamespace

import pandas as pd
import pytest
from docutils import nodes
from test_runner import make_project

from press import reference, scoreboard, site
from press.runner import PressError
from sublearn.core import machine, store
from sublearn.report import scorecard

INPUTS = {
    "order of cells": ["a"],
    "cell a": "digest a",
    "sublearn.stats": "digest s",
    "parameter models": 25,
    "parameter dataset": "mnist",
    "data mnist": "digest d",
    "processor": "some cpu",
    "requirements.txt": "digest r",
}
HEADER = "name,value,low,high,n,unit,setting,dataset,device,code,date"


def write_records(path, *rows):
    """A file of results; rows of name, value, low, high and n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{','.join(map(str, row))},accuracy,REF,mnist,cpu,abc,2026-01-02" for row in rows]
    path.write_text("\n".join([HEADER, *lines, ""]))


@pytest.fixture
def project(tmp_path):
    """A project whose chapter 3 has run in the profile `reference`."""
    project = make_project(
        tmp_path / "book", profile="reference", n03_strength=[("t", "markdown", "# T")]
    )
    copy = {"cells": [], "metadata": {"press": {"inputs": INPUTS, "digest": "abc"}}}
    store.write_atomic(project.executed("03_strength"), json.dumps(copy))
    up = (0.2, 0.1, 0.3, 25)
    write_records(project.results("03_strength"), ("claim_P-1", *up), ("claim_P-2", *up))
    tables = project.results("03_strength").with_suffix("")
    tables.mkdir()
    (tables / "rate.csv").write_text("a\n1\n")
    store.write_atomic(project.private("times.json"), json.dumps({"03_strength": 12.5}))
    return project


# ---------------------------------------------------------------- kept and stale


def test_what_is_kept_is_the_run_with_what_made_it(project):
    target = reference.keep(project, "03_strength")
    folder = project.root / "book/reference/results"
    assert target == folder / "03.csv"
    assert target.read_bytes() == project.results("03_strength").read_bytes()
    assert (folder / "03" / "rate.csv").read_text() == "a\n1\n"
    provenance = json.loads((folder / "03.json").read_text())
    assert provenance["notebook"] == "03_strength"
    assert (provenance["date"], provenance["seconds of the last run"]) == ("2026-01-02", 12.5)
    assert (provenance["processor"], provenance["number type"]) == ("some cpu", machine.precision())
    assert provenance["parameters"] == {"models": 25, "dataset": "mnist"}
    assert set(provenance["versions"]) == {"numpy", "scipy", "torch", "transformers"}
    assert provenance["code"] == reference.code_digest(INPUTS)


def test_keeping_again_leaves_no_table_of_before(project):
    reference.keep(project, "03_strength")
    (project.results("03_strength").with_suffix("") / "rate.csv").unlink()
    write_records(project.results("03_strength"), ("other", 1, 0, 2, 25))
    target = reference.keep(project, "03_strength")
    assert "other" in target.read_text() and "claim_P-1" not in target.read_text()
    assert not list((target.parent / "03").iterdir())


def test_a_chapter_without_reference_says_how_to_make_it(project):
    sentence = reference.staleness(project, "03_strength", INPUTS)
    assert "no reference run yet" in sentence and "`make reference NAME=03`" in sentence


@pytest.mark.parametrize("key", ["cell a", "order of cells", "sublearn.stats", "sublearn.new"])
def test_other_code_makes_a_reference_stale(project, key):
    reference.keep(project, "03_strength")
    sentence = reference.staleness(project, "03_strength", INPUTS | {key: "other"})
    assert "(2026-01-02) was made by other code" in sentence
    assert "`make reference NAME=03`" in sentence


@pytest.mark.parametrize("key", ["parameter models", "data mnist", "processor", "requirements.txt"])
def test_another_profile_or_machine_does_not(project, key):
    reference.keep(project, "03_strength")
    assert reference.staleness(project, "03_strength", INPUTS | {key: "other"}) == ""


def test_the_page_of_a_chapter_ends_with_that_sentence(project):
    notebook = {"cells": [], "metadata": {"press": {"inputs": INPUTS}}}
    text = site.with_staleness(project, "03_strength", json.loads(json.dumps(notebook)))
    assert "no reference run yet" in json.loads(text)["cells"][-1]["source"]
    reference.keep(project, "03_strength")
    text = site.with_staleness(project, "03_strength", json.loads(json.dumps(notebook)))
    assert json.loads(text)["cells"] == []


# ---------------------------------------------------------------- two runs compared


@pytest.mark.parametrize(
    ("first", "second", "moved", "flipped"),
    [
        ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), 0, 0),
        ((0.2, 0.1, 0.3), (0.25, 0.15, 0.35), 1, 0),
        ((0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), 1, 1),
        ((0.2, 0.1, 0.3), (0.2, -0.1, 0.5), 0, 1),
    ],
)
def test_a_difference_fails_only_where_a_verdict_flips(
    tmp_path, capsys, first, second, moved, flipped
):
    for folder, numbers in (("a", first), ("b", second)):
        write_records(tmp_path / folder / "03_strength.csv", ("claim_P-1", *numbers, 25))
    assert reference.print_diff(tmp_path / "a", tmp_path / "b") == flipped
    shown = capsys.readouterr().out
    assert f"{moved} recorded numbers moved." in shown
    assert f"{flipped} verdicts flipped." in shown
    assert ("P-1" in shown.split("moved.")[1].replace("claim_P-1", "")) == bool(flipped)


def test_a_folder_without_results_is_named(tmp_path):
    write_records(tmp_path / "a" / "03_strength.csv", ("x", 1, 0, 2, 25))
    (tmp_path / "b").mkdir()
    for folders in ((tmp_path / "a", tmp_path / "b"), (tmp_path / "none", tmp_path / "a")):
        with pytest.raises(PressError, match=r"(b|none) holds no results such as 03_strength.csv"):
            reference.print_diff(*folders)


def test_a_difference_needs_two_folders(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["press", "diff", "one"])
    assert site.main() == 2
    assert "diff compares two folders, not 1; name both" in capsys.readouterr().err


# ---------------------------------------------------------------- the page


class Reader(html.parser.HTMLParser):
    """Tags of a page in their order, each with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.depth = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("line", "circle", "input", "br"):
            self.depth.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.depth.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def claims():
    return scorecard.read_claims()


@pytest.fixture
def page(project):
    """The scorecard's page of a project with a reference of chapter 3 and a local run that differs."""
    reference.keep(project, "03_strength")
    write_records(project.results("03_strength"), ("claim_P-1", -0.2, -0.3, -0.1, 8))
    return scoreboard.page(project)


def test_the_page_has_a_row_for_each_claim(page, claims):
    reader = Reader(page)
    assert reader.depth == []
    rows = [row for row in reader.all("tr") if "id" in row]
    assert [row["id"] for row in rows] == [f"claim-{name}" for name in claims.id]
    assert [row["data-source"] for row in rows] == list(claims.source)
    assert [row["data-chapter"] for row in rows] == list(claims.chapter.astype(str))
    assert {row["data-verdict"] for row in rows} <= set(scorecard.VERDICTS)


def test_a_row_has_the_verdict_of_the_reference_and_that_of_the_local_run(page):
    row = re.search(r'<tr id="claim-P-1".*?</tr>', page).group().replace("\u00a0", " ")
    assert 'data-verdict="reproduced"' in row
    assert '<span class="verdict" data-word="reproduced">reproduced</span>' in row
    assert "here: contradicted" in row and "(n = 25)" in row
    assert '<a href="../notebooks/03_strength.html">T</a>' in row
    assert "ours 0.2 [0.1, 0.3]" in row and "<svg" in row


def test_filters_offer_what_is_there_and_wait_for_the_script(page, claims):
    reader = Reader(page)
    assert [box["name"] for box in reader.all("select")] == ["source", "chapter", "verdict"]
    assert reader.all("form") == [{"hidden": None}]
    values = {option["value"] for option in reader.all("option")}
    assert values == {
        "", *claims.source, *claims.chapter.astype(str), "reproduced", "contradicted", "not run"
    }  # fmt: skip
    assert "row.dataset[box.name]" in page


def test_the_page_counts_verdicts(page, claims):
    own = (claims.source == scorecard.OWN).sum()
    assert f"Claims of others ({len(claims) - own}), by the reference runs:" in page
    assert (
        f"Predictions of this book ({own}), by the reference runs:</strong> 1 reproduced, 1 contra"
        in page
    )
    assert f"{own - 2} not run." in page


def test_the_page_carries_its_table(page, project, claims):
    (address,) = [link["href"] for link in Reader(page).all("a") if link.get("download")]
    assert address.startswith("data:text/csv;base64,")
    path = project.root / "carried.csv"
    path.write_bytes(base64.b64decode(address.split(",", 1)[1]))
    carried = pd.read_csv(path)
    assert list(carried.id) == list(claims.id)
    ours = carried.set_index("id").loc["P-1"]
    assert (ours.verdict, ours.local_verdict) == ("reproduced", "contradicted")
    written = pd.read_csv(scoreboard.write_csv(project))
    assert scoreboard.write_csv(project) == project.results("scorecard")
    assert list(written) == list(carried)


def test_a_book_without_results_has_a_page(tmp_path, claims):
    project = make_project(tmp_path / "book")
    reader = Reader(scoreboard.page(project))
    assert len([row for row in reader.all("tr") if "id" in row]) == len(claims)
    assert not reader.all("svg")


def claim(**values):
    row = dict.fromkeys(["value", "low", "high", "published", "published_low", "published_high"])
    row |= {"bound": None, "n": None} | values
    return pd.DataFrame([row]).astype(float).iloc[0]


def test_a_strip_has_both_values_on_one_axis():
    text = scoreboard.strip(claim(value=0.5, low=0.4, high=0.6, published=0.9, bound=0.1))
    reader = Reader(text)
    bound, ours = reader.all("line")
    theirs, dot = reader.all("circle")
    assert [line["class"] for line in (bound, ours)] == ["bound", "ours"]
    width = scoreboard.STRIP[0]
    assert (float(bound["x1"]), float(theirs["cx"])) == (6, width - 6)  # 0.1 and 0.9: the ends
    assert float(dot["cx"]) == pytest.approx(width / 2)
    assert (float(ours["x1"]) + float(ours["x2"])) / 2 == pytest.approx(width / 2, abs=0.1)
    said = reader.all("svg")[0]["aria-label"].replace("\u00a0", " ")
    assert "ours 0.5 [0.4, 0.6], published 0.9" in said


def test_a_strip_without_ours_says_what_was_published():
    assert scoreboard.strip(claim(published=0.9)) == "published 0.9"
    assert scoreboard.strip(claim(bound=0.9)) == ""


def test_a_strip_of_a_single_value_has_no_width_to_divide_by():
    text = scoreboard.strip(claim(value=0.5, low=0.5, high=0.5))
    assert "nan" not in text and len(Reader(text).all("circle")) == 1


def test_names_are_escaped(project):
    table = scoreboard.joined(project)
    row = table.iloc[:1].assign(claim="a < b & c", source='"quoted"', note="<b>")
    text = scoreboard.row(next(row.itertuples()), {}, scoreboard.Place())
    assert "a &lt; b &amp; c" in text and "&quot;quoted&quot;" in text and "<b>" not in text


# ---------------------------------------------------------------- where a claim is shown


def glued(name):
    return {"metadata": {"scrapbook": {"name": name}}}


def drawn(name):
    return {"metadata": {"sublearn": {"name": name}}}


CELLS = [
    {"cell_type": "markdown", "source": ["# T\n"]},
    {"cell_type": "code", "id": "one", "source": "", "outputs": [drawn("fig:before")]},
    {"cell_type": "markdown", "source": ["Text, then\n", "## Second\n"]},
    {"cell_type": "code", "id": "two", "source": "", "outputs": [drawn("fig:near")]},
    {"cell_type": "code", "id": "three", "source": "", "outputs": [glued("x"), glued("x_low")]},
    {"cell_type": "markdown", "source": ["No heading: #1, and\n", "### Part\n"]},
    {"cell_type": "code", "id": "four", "source": "", "outputs": [drawn("fig:after")]},
    {"cell_type": "code", "id": "five", "source": "", "outputs": [glued("y"), glued("x")]},
    {"cell_type": "markdown", "source": "## Third"},
    {"cell_type": "code", "id": "six", "source": "", "outputs": [glued("claim_P")]},
]


@pytest.fixture
def contents(tmp_path):
    (tmp_path / "near.csv").write_text("factor,level,mean\nrate,0.10,1\n")
    (tmp_path / "after.csv").write_text("arm,mean\nrate: 0.10,1\nloss: KL,1\n")
    return scoreboard.read_contents(CELLS, tmp_path)


@pytest.mark.parametrize(
    ("quantity", "arm", "figure", "cell"),
    [
        ("x;z", None, "fig:near", "three"),  # one cell before is nearer than two after
        ("y", None, "fig:after", "five"),  # none after it in the section
        ("claim_P", "rate: 0.10", "fig:near", "six"),  # the first whose table has the arm
        ("claim_P", "loss: KL", "fig:after", "six"),
        ("claim_P", "loss: other", "", "six"),
        ("claim_P", None, "", "six"),  # no figure in the section
        ("unknown", None, "", ""),
        ("unknown", "loss: KL", "fig:after", ""),
    ],
)
def test_a_claim_is_shown_by_a_figure_and_a_cell(contents, quantity, arm, figure, cell):
    claim = pd.Series({"quantity": quantity, "arm": arm})
    assert scoreboard.place_of(claim, contents) == (figure, cell)


def test_of_two_figures_as_near_the_later_shows_a_claim():
    ids, figures = ["a", "b", "c"], {0: "fig:x", 2: "fig:y"}
    contents = scoreboard.Contents(ids, [1, 1, 1], {"q": 1}, figures, {})
    claim = pd.Series({"quantity": "q", "arm": None})
    assert scoreboard.place_of(claim, contents) == ("fig:y", "b")


def test_a_row_links_to_figure_and_cell(project):
    copy = store.read_json(project.executed("03_strength"))
    copy["cells"] = [*CELLS[:4], CELLS[4] | {"outputs": [glued("claim_P-1")]}]
    store.write_atomic(project.executed("03_strength"), json.dumps(copy))
    tables = project.results("03_strength").with_suffix("")
    arm = scorecard.read_claims().set_index("id").arm["P-1"]
    (tables / "near.csv").write_text(f"arm\n{arm}\n")
    row = re.search(r'<tr id="claim-P-1".*?</tr>', scoreboard.page(project)).group()
    assert '<a href="../notebooks/03_strength.html#fig-near">figure</a>' in row
    assert '<a href="../notebooks/03_strength.html#cell-three">cell</a>' in row


def test_code_cells_of_a_page_are_places(project):
    copy = store.read_json(project.executed("03_strength"))
    copy["cells"] = CELLS
    store.write_atomic(project.executed("03_strength"), json.dumps(copy))
    code = nodes.container(nb_element="cell_code", cell_index=4)
    output = nodes.container(nb_element="cell_code_output")
    doctree = nodes.section("", code, output)
    noted = []
    env = SimpleNamespace(
        docname="notebooks/03_strength",
        doc2path=lambda name: f"{name}.ipynb",
        note_dependency=noted.append,
    )
    config = SimpleNamespace(executed_profile="reference")
    app = SimpleNamespace(srcdir=project.root, env=env, config=config)
    site.name_cells(app, doctree)
    assert code["ids"] == ["cell-three"] and output["ids"] == []
    assert noted == [project.executed("03_strength")]
    env.doc2path = lambda name: f"{name}.md"
    site.name_cells(app, nodes.section("", nodes.container(nb_element="cell_code", cell_index=99)))


# ---------------------------------------------------------------- contradictions


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        (["reproduced"], ["not reproduced"], "The first."),
        (["undecided", "same direction"], ["not run"], "The first."),
        (["undecided"], ["contradicted"], "The first."),
        (["not reproduced"], ["reproduced"], "The second."),
        ([""], ["reproduced"], "The second."),
        ([""], ["contradicted"], "The first."),
        (["reproduced"], ["same direction"], "Both, each in its own setting."),
        (["contradicted", "reproduced"], ["undecided"], "Both, each in its own setting."),
        (["not reproduced"], ["not reproduced"], "Neither."),
        (["not reproduced"], ["undecided"], "Open: not decided, or not run yet."),
        (["not run"], ["not run"], "Open: not decided, or not run yet."),
    ],
)
def test_a_contradiction_is_settled_by_verdicts(one, other, outcome):
    assert scoreboard.settled(one, other) == outcome


def test_a_value_in_the_same_direction_does_not_speak_for_its_side():
    assert scoreboard.weight("value", "same direction") == "not reproduced"
    assert scoreboard.weight("value", "reproduced") == "reproduced"
    assert scoreboard.weight("correlation", "same direction") == "same direction"


def test_contradictions_rest_on_claims_that_are_there(project, claims):
    reference.keep(project, "03_strength")
    cases = pd.read_csv(scoreboard.CONTRADICTIONS).fillna("")
    assert cases.question.is_unique and cases.why.str.len().gt(0).all()
    for case in cases.itertuples():
        named = {*case.for_one.split(";"), *case.for_other.split(";")} - {""}
        assert named and named <= set(claims.id), case.question
        assert set(case.for_one.split(";")).isdisjoint(case.for_other.split(";"))
    text = scoreboard.contradictions(project)
    reader = Reader(text)
    assert reader.depth == []
    assert len(reader.all("tr")) == len(cases) + 1
    assert text.count("<strong>Open") == len(cases)  # chapter 3's two claims are in none
    places = {link["href"].removeprefix("#claim-") for link in reader.all("a")}
    assert places <= set(claims.id)
