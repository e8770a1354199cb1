"""What a notebook shows and records is what the press finds again."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot

from sublearn.core import machine
from sublearn.report import notebook, scorecard
from sublearn.report.figures import bars_note
from sublearn.stats import interval, paired, summary


@pytest.fixture
def displayed():
    """What is displayed during a test: `outputs`, one per call, with data and metadata."""
    InteractiveShell.instance()
    with capture_output() as captured:
        yield captured
    InteractiveShell.clear_instance()


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_RESULTS", str(tmp_path))
    return tmp_path


def records(folder):
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def glued(outputs):
    return {
        output.metadata["scrapbook"]["name"]: output.data["application/papermill.record/text/plain"]
        for output in outputs
    }


def show_line(**keywords):
    figure, ax = pyplot.subplots()
    ax.plot([0, 1])
    notebook.show(
        figure, **{"name": "fig:x", "caption": "A line.", "alt": "One line that rises."} | keywords
    )


def test_a_kernel_with_torch_says_what_torch_computed_in(results):
    assert torch.__name__ in sys.modules
    notebook.record("a", 0.5)
    assert records(results)[0]["device"] == machine.hardware()


def test_a_record_is_glued_and_kept(displayed, results):
    notebook.record(
        "a", np.float32(0.5), low=0.25, high=np.float64(0.75), n=np.int64(8), dataset="digits"
    )
    notebook.record("b", 1, low=np.nan, unit="ratio", setting="toy", device="abacus")
    assert glued(displayed.outputs) == {
        "a": "0.5",
        "a_low": "0.25",
        "a_high": "0.75",
        "a_n": "8",
        "b": "1.0",
    }
    first, second = records(results)
    numbers = {"name": "a", "value": 0.5, "low": 0.25, "high": 0.75, "n": 8}
    labels = {
        "unit": "accuracy",
        "setting": "REF",
        "dataset": "digits",
        "device": machine.hardware(),
    }
    assert first == numbers | labels
    numbers = {"name": "b", "value": 1.0, "low": None, "high": None, "n": None}
    assert second == numbers | {
        "unit": "ratio",
        "setting": "toy",
        "dataset": "",
        "device": "abacus",
    }


def test_a_live_kernel_keeps_no_record(displayed, tmp_path, monkeypatch):
    monkeypatch.delenv("SUBLIMINAL_RESULTS", raising=False)
    monkeypatch.chdir(tmp_path)
    notebook.record("a", 0.5)
    assert glued(displayed.outputs) == {"a": "0.5"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, None])
def test_a_record_needs_a_number(value, displayed):
    with pytest.raises(ValueError, match=r"record\('a'\) got no number; give a finite value"):
        notebook.record("a", value)
    assert not displayed.outputs


def test_a_kernel_without_torch_worked_in_float64(tmp_path):
    lines = [
        "import sys",
        "from sublearn.report.notebook import record",
        "record('a', 1)",
        "sys.exit('torch' in sys.modules)",
    ]
    code = "; ".join(lines)
    environment = os.environ | {"SUBLIMINAL_RESULTS": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    assert records(tmp_path)[0]["device"] == "cpu float64"


def test_a_mean_is_recorded_with_its_interval_on_the_scale_asked_for(displayed, results):
    values = [0.1, 0.2, 0.4]
    low, high = interval(values)
    row = notebook.record_mean("log", values, "nats")
    assert row == {"mean": pytest.approx(np.mean(values)), "low": low, "high": high, "n": 3}
    row = notebook.record_mean("ratio", iter(values), "ratio", change=np.exp, setting="toy")
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(
        tuple(np.exp([np.mean(values), low, high]))
    )
    record = records(results)[1]
    assert (record["name"], record["value"], record["n"]) == ("ratio", row["mean"], 3)
    assert (record["unit"], record["setting"]) == ("ratio", "toy")
    assert (record["low"], record["high"]) == (row["low"], row["high"])


def test_a_single_model_has_no_interval(displayed, results):
    row = notebook.record_mean("one", [0.3], "accuracy")
    assert (row["mean"], row["n"]) == (0.3, 1)
    assert np.isnan(row["low"]) and np.isnan(row["high"])
    assert records(results)[0]["low"] is None
    assert list(glued(displayed.outputs)) == ["one", "one_n"]


def test_rows_of_summaries_and_of_paired_tables_are_recorded(displayed, results):
    table = pd.DataFrame({"arm": ["a", "b"] * 3, "seed": 0, "model": [0, 0, 1, 1, 2, 2]})
    table["accuracy"] = [0.1, 0.3, 0.2, 0.5, 0.4, 0.4]
    mean, change = summary(table, "arm").iloc[0], paired(table, "arm", against="a").iloc[0]
    notebook.record_summary("mean", mean)
    notebook.record_summary("change", change, dataset="digits")
    first, second = records(results)
    assert (first["value"], first["low"], first["high"], first["n"]) == (
        mean["mean"],
        mean.low,
        mean.high,
        3,
    )
    assert (second["value"], second["low"], second["n"]) == (change.difference, change.low, 3)
    assert second["dataset"] == "digits"


def test_a_figure_carries_its_caption_and_its_alternative_text(displayed, results):
    table = pd.DataFrame({"x": [1, 2]})
    show_line(table=table)
    (output,) = displayed.outputs
    assert output.metadata["sublearn"] == {
        "name": "fig:x",
        "caption": "A line.",
        "alt": "One line that rises.",
    }
    assert output.data["image/svg+xml"].startswith("<?xml")
    assert output.data["text/plain"] == "One line that rises."
    assert pd.read_csv(results / "x.csv").equals(table)
    assert not pyplot.get_fignums()


def test_the_same_figure_has_the_same_bytes(displayed, results):
    show_line()
    show_line()
    assert displayed.outputs[0].data == displayed.outputs[1].data


def test_a_caption_given_n_ends_with_what_points_and_bars_are(displayed, results):
    show_line(n=8)
    show_line(n=pd.Series([3, 5]), unit="draws")
    captions = [output.metadata["sublearn"]["caption"] for output in displayed.outputs]
    assert captions == [f"A line. {bars_note(8)}", f"A line. {bars_note([3, 5], 'draws')}"]


def test_a_live_kernel_shows_the_caption(displayed, monkeypatch):
    monkeypatch.delenv("SUBLIMINAL_RESULTS", raising=False)
    show_line(n=8)
    assert displayed.outputs[1].data["text/markdown"] == f"A line. {bars_note(8)}"


def test_a_figure_needs_a_name_that_prose_can_refer_to(displayed):
    with pytest.raises(ValueError, match="figure name is 'x'; it must start with 'fig:'"):
        show_line(name="x")
    pyplot.close("all")


def test_a_table_is_shown_with_its_caption_and_kept(displayed, results):
    table = pd.DataFrame({"arm": ["a", "b"], "share": [0.12345, np.nan]})
    notebook.tabulate(table, name="tab:shares", caption="Shares.", formats={"share": "{:.3f}"})
    html = displayed.outputs[0].data["text/html"]
    assert "<caption>Shares.</caption>" in html
    assert ">0.123<" in html and ">–<" in html and "0.12345" not in html
    assert pd.read_csv(results / "shares.csv").equals(table)


@pytest.fixture
def chapter(monkeypatch, results):
    """Chapter 5 of a book with two claims of others and one prediction, and a reference run."""
    claims = pd.DataFrame({
        "id": ["O-1", "O-2", "P-1", "Q-1"],
        "source": ["someone", "someone", "this book", "this book"],
        "chapter": [5, 5, 5, 6],
        "kind": ["more", "value", "at least", "more"],
        "claim": ["It helps", "It is a half", "It is good", "Elsewhere"],
        "published": [0.2, 0.5, np.nan, np.nan],
        "published_low": np.nan, "published_high": np.nan, "setting": "", "note": "",
        "quantity": ["gain", "level", "level", "gain"],
        "bound": [0.0, np.nan, 0.9, 0.0],
        "margin": 0.05,
        "baseline": ["arm: a", None, None, None],
        "arm": ["arm: b", None, None, None],
    })  # fmt: skip
    made = "name,value,low,high,n\ngain,-0.3,-0.4,-0.2,25\n"
    (results / "05.csv").write_text(made)
    (results / "05").mkdir()
    (results / "05" / "x.csv").write_text("a\n1\n")
    monkeypatch.setattr(notebook, "RECORDS", [])
    monkeypatch.setattr(notebook, "RESULTS", results)
    monkeypatch.setattr(notebook, "read_claims", lambda: claims)
    monkeypatch.setattr(scorecard, "read_claims", lambda: claims)


def test_verdicts_stand_beside_those_of_the_reference(displayed, results, chapter):
    notebook.record("gain", 0.3, low=0.2, high=0.4, n=8)
    notebook.record("unjudged", 0.3)
    notebook.show_claims(5, name="tab:claims", source="not this book")
    notebook.show_claims(5, name="tab:own", source="this book")
    notebook.show_claims(5, name="tab:all")
    shown = pd.read_csv(results / "claims.csv")
    assert list(shown.claim) == ["It helps (O-1, someone)", "It is a half (O-2, someone)"]
    assert list(shown.verdict) == ["reproduced", "not run"]
    assert list(shown.reference) == ["contradicted", "not run"]
    assert list(shown.here) == ["0.300 [0.200, 0.400] (n = 8)", "–"]
    assert list(pd.read_csv(results / "own.csv").claim) == ["It is good (P-1, this book)"]
    assert len(pd.read_csv(results / "all.csv")) == 3
    assert "<caption>" in displayed.outputs[-1].data["text/html"]


def test_a_verdict_that_holms_correction_changes_says_so(displayed, results, chapter):
    notebook.record("gain", 0.3, low=0.02, high=0.58, n=8)
    notebook.record("level", 0.5, low=0.3, high=0.7, n=8)
    notebook.show_claims(5, name="tab:claims")
    first = pd.read_csv(results / "claims.csv").verdict[0]
    assert first == "reproduced (after Holm: undecided)"


def test_a_chapter_that_recorded_nothing_ran_nothing(displayed, results, chapter):
    notebook.show_claims(5, name="tab:claims")
    assert set(pd.read_csv(results / "claims.csv").verdict) == {"not run"}


def test_contrasts_of_claims_are_recorded(displayed, results, chapter):
    rows = [
        {"arm": f"arm: {arm}", "seed": 0, "model": model, "accuracy": 0.5 + 0.01 * model + change}
        for model in range(4)
        for arm, change in (("a", 0), ("b", 0.1 + 0.001 * model))
    ]
    notebook.record_contrasts(pd.DataFrame(rows), 5, dataset="digits")
    (row,) = records(results)
    assert (row["name"], row["n"], row["dataset"]) == ("gain", 4, "digits")
    assert row["value"] == pytest.approx(0.1015)
    assert row["low"] < row["value"] < row["high"]


def test_the_reference_has_tables_of_figures(chapter):
    assert notebook.reference_table(5, "fig:x").a.tolist() == [1]
    assert notebook.reference_table(5, "fig:other") is None


def test_levels_stay_names_though_they_look_like_numbers(chapter):
    path = notebook.RESULTS / "05" / "y.csv"
    path.write_text("level,mean\n10,0.5\n0.10,0.6\n")
    assert notebook.reference_table(5, "fig:y").level.tolist() == ["10", "0.10"]


def test_a_reference_run_does_not_read_the_one_that_it_replaces(chapter, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PROFILE", "reference")
    assert notebook.reference_table(5, "fig:x") is None
    assert notebook.reference_table(4, "fig:x") is None


def test_a_page_not_built_on_mnist_says_so(displayed):
    notebook.note("mnist")
    assert not displayed.outputs
    notebook.note("digits")
    assert "not on MNIST" in displayed.outputs[0].data["text/markdown"]


@pytest.mark.parametrize(
    ("low", "high", "bound", "said"),
    [
        (0.1, 0.2, 0, "up"),
        (-0.2, -0.1, 0, "down"),
        (-0.1, 0.1, 0, "open"),
        (0.1, 0.2, 0.3, "down"),
        (0.0, 0.2, 0, "open"),
    ],
)
def test_words_for_an_interval_follow_where_it_lies(low, high, bound, said):
    assert notebook.finding({"low": low, "high": high}, "up", "down", "open", bound) == said
