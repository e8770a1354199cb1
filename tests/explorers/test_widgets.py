"""The explorers: their numbers against NumPy, PyTorch and sublearn."""

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
import twin

from sublearn import stats, theory
from sublearn.explorers import widgets
from sublearn.nets.settings import PARTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def node():
    if not shutil.which("node"):
        pytest.skip(
            "no node result: install Node.js 20 or newer (Debian, Ubuntu: apt install nodejs)"
        )

    def run(script, *arguments, given):
        command = ["node", str(ROOT / "tests" / "explorers" / script), *arguments]
        done = subprocess.run(
            command, input=json.dumps(given), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def ask(node):
    """Ask one of the modules a question; see tests/explorers/answers.mjs."""
    return lambda name, argument: json.loads(node("answers.mjs", given=[[name, argument]]))[0]


@pytest.fixture(scope="session")
def digits():
    return twin.unpack(widgets.packed_digits())


# Numbers


@pytest.mark.parametrize("use", twin.USES)
def test_streams_are_the_same_in_the_browser_and_in_numpy(ask, use):
    ours = twin.uniform(twin.key(7, use, 123), np.arange(2000))
    assert ask("uniform", [7, use, 123, 2000]) == ours.tolist()
    assert (
        ask("normal", [7, use, 123, 2000])
        == twin.normal(twin.key(7, use, 123), np.arange(2000)).tolist()
    )


def test_streams_are_uniform_and_differ():
    draws = np.array(
        [
            twin.uniform(twin.key(seed, use, 0), np.arange(4000))
            for seed in (1, 2)
            for use in twin.USES
        ]
    )
    assert all(scipy.stats.kstest(row, "uniform").pvalue > 1e-4 for row in draws)
    assert np.abs(np.corrcoef(draws) - np.eye(len(draws))).max() < 0.07
    assert (
        scipy.stats.kstest(twin.normal(twin.key(1, "start", 0), np.arange(4000)), "norm").pvalue
        > 1e-4
    )


LAYERS = [
    ("crossEntropy", 3),
    ("squaredError", 1),
    ("squaredError", 3),
    ("squaredError", 20),
    ("divergence", 5),
]


@pytest.mark.parametrize("plain", [False, True], ids=["webassembly", "plain"])
@pytest.mark.parametrize(("loss", "aux_dim"), LAYERS)
def test_gradients_are_those_of_automatic_differentiation(ask, loss, aux_dim, plain):
    width, batch, generator = 32, 64, np.random.default_rng(0)
    inputs = generator.uniform(-1, 1, (batch, 64))
    labels, targets = (
        generator.integers(10, size=batch),
        generator.standard_normal((batch, aux_dim)),
    )
    given = labels if loss == "crossEntropy" else targets.ravel()
    question = {
        "seed": 3,
        "width": width,
        "aux_dim": aux_dim,
        "batch": batch,
        "loss": loss,
        "plain": plain,
    }
    result = ask(
        "gradient", question | {"inputs": inputs.ravel().tolist(), "targets": given.tolist()}
    )
    assert result["compiled"] is not plain

    network = twin.initial(3, "start", width, aux_dim)
    head = "class_head" if loss == "crossEntropy" else "aux_head"
    parts = {
        part: [torch.tensor(x, requires_grad=True) for x in network[part]]
        for part in ("hidden0", "hidden1", head)
    }
    hidden = torch.tensor(inputs)
    for part in ("hidden0", "hidden1"):
        hidden = torch.relu(hidden @ parts[part][0] + parts[part][1])
    logits, wanted = hidden @ parts[head][0] + parts[head][1], torch.tensor(targets)
    losses = {
        "crossEntropy": lambda: torch.nn.functional.cross_entropy(logits, torch.tensor(labels)),
        "squaredError": lambda: torch.nn.functional.mse_loss(logits, wanted),
        "divergence": lambda: torch.nn.functional.kl_div(
            logits.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True
        ),
    }
    value = losses[loss]()
    value.backward()
    assert result["value"] == pytest.approx(value.item(), rel=1e-12)
    for (weight, bias), tensors in zip(result["gradient"], parts.values()):
        for ours, theirs in zip((weight, bias), tensors):
            gap = np.linalg.norm(np.array(ours) - theirs.grad.numpy().ravel())
            assert gap <= 1e-12 * theirs.grad.norm().item()


SHAPES = [
    (64, 64, 64),
    (64, 64, 10),
    (500, 64, 64),
    (64, 3, 64),
    (64, 64, 1),
    (6, 5, 7),
    (7, 5, 11),
]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_products_give_the_same_bits_and_the_right_ones(ask, shape, turned):
    rows, inner, columns = shape
    result = ask("product", {"rows": rows, "inner": inner, "columns": columns, "turned": turned})
    A = np.array(result["A"]).reshape((inner, rows) if turned else (rows, inner))
    exact = (A.T if turned else A) @ np.array(result["B"]).reshape(inner, columns)
    assert result["compiled"]
    assert result["same"]
    assert np.array(result["C"]).reshape(rows, columns) == pytest.approx(exact, abs=1e-13)


RUNS = [
    {},
    {
        "loss": "kl",
        "inputs": "digits",
        "aux_dim": 5,
        "perturbation": 0.3,
        "shared": ["hidden", "class_head"],
    },
]


@pytest.mark.parametrize("changes", RUNS, ids=["default", "changed"])
def test_a_run_of_the_browser_is_recomputed_in_numpy(node, digits, changes):
    config = {"steps": 100, "width": 32} | changes
    question = json.dumps({"seeds": [5], "config": config})
    lines = pd.read_csv(
        pd.io.common.StringIO(node("runs.mjs", question, given=widgets.packed_digits()))
    )
    ours = twin.run(digits, seed=5, **config)
    assert lines[["step", "student", "control"]].to_numpy().tolist() == ours["points"]
    assert set(lines.teacher) == {ours["teacher"]}
    assert set(lines.ceiling) == {ours["ceiling"]}


def test_the_stored_runs_are_those_of_the_scripts(node):
    """`make laboratory` wrote the shaded band; a seed of it is run once more."""
    stored = pd.read_csv(widgets.LABORATORY)
    question = json.dumps({"seeds": [17], "every": 50})
    again = pd.read_csv(
        pd.io.common.StringIO(node("runs.mjs", question, given=widgets.packed_digits()))
    )
    pd.testing.assert_frame_equal(stored[stored.seed == 17].reset_index(drop=True), again)
    assert stored.seed.nunique() == widgets.Laboratory().band["runs"]


def test_the_digits_are_all_there(digits):
    from sublearn.nets import data

    images = data.load("digits")
    for part in ("train", "test"):
        whole = np.hstack([getattr(images, f"{part}_{what}").numpy().reshape(-1, size)
                           for what, size in (("images", 64), ("labels", 1))])  # fmt: skip
        packed = np.hstack([(digits[part][0] + 1) * 8, digits[part][1][:, None]])
        assert sorted(map(tuple, packed)) == sorted(map(tuple, whole))


def test_python_and_browser_have_the_same_defaults(ask):
    laboratory, defaults = widgets.Laboratory(), ask("defaults", None)
    assert {name: getattr(laboratory, name) for name in defaults} == defaults == twin.REF
    assert tuple(defaults["shared"]) == PARTS


@pytest.mark.parametrize("logits", [1, 2])
def test_the_plane_solves_what_the_theory_solves(ask, logits):
    generator = np.random.default_rng(1)
    for degenerate in (False, True):
        hidden, heads = generator.standard_normal((2, 2)), generator.standard_normal((2, 3))
        if degenerate:
            heads[:, 2] = -0.5 * heads[:, 1]
        aux = heads[:, 1 : 1 + logits]
        student = theory.projected_student(np.zeros((2, 2)), teacher=hidden, aux_head=aux) @ heads
        result = ask("solve", [hidden.tolist(), heads.tolist(), logits])
        assert np.array(result["student"]) == pytest.approx(student, abs=1e-9)
        teacher, passed = hidden @ heads, theory.projector(aux) @ heads[:, :1]
        assert np.cos(np.radians(result["angle"])) == pytest.approx(
            theory.cosine(student[:, :1], teacher[:, :1])
        )
        assert result["share"] == pytest.approx(theory.share(passed, heads[:, :1]))


def test_the_small_step_is_the_projected_one(ask):
    step, teacher_head, student_head = [1.5, 0.5], [0.5, 1.4], [-0.9, 0.8]
    same = ask("imitation", [step, teacher_head, teacher_head])
    projector = theory.projector(np.array(teacher_head)[:, None])
    assert same["moved"] == pytest.approx(projector @ step)
    assert same["inner"] == pytest.approx(np.dot(same["moved"], step))
    assert ask("imitation", [step, teacher_head, student_head])["inner"] < 0


def scores():
    generator = np.random.default_rng(2)
    levels = [("uniform", "images"), (1, 3, 10), (0, 1), range(4)]
    rows = itertools.product(*levels)
    table = pd.DataFrame(rows, columns=["inputs", "aux_dim", "seed", "model"])
    accuracy = generator.random(len(table))
    accuracy[(table.inputs == "images") & (table.aux_dim == 10)] = 1.0  # every model is right
    return table.assign(accuracy=accuracy, n=1)


def test_intervals_are_those_of_sublearn(ask):
    table, factors = scores(), ["inputs", "aux_dim"]
    widget = widgets.Results(table, factors=factors)
    question = {
        "factor": "inputs",
        "hue": "aux_dim",
        "measure": "accuracy",
        "baseline": "(none)",
        "where": {},
    }
    result = pd.DataFrame(ask("choose", [widget.data, question])).set_index(["level", "hue"])
    for row in stats.summary(table, by=factors).itertuples():
        ours = result.loc[(row.inputs, str(row.aux_dim)), ["mean", "low", "high", "n"]].tolist()
        assert ours == pytest.approx([row.mean, row.low, row.high, row.n], abs=1e-6)


def test_paired_differences_are_those_of_sublearn(ask):
    table = scores()
    widget = widgets.Results(table, factors=["inputs", "aux_dim"])
    question = {
        "factor": "aux_dim",
        "hue": "inputs",
        "measure": "accuracy",
        "baseline": "3",
        "where": {},
    }
    result = pd.DataFrame(ask("choose", [widget.data, question])).set_index(["level", "hue"])
    for row in stats.paired(table, over="aux_dim", against=3, by="inputs").itertuples():
        ours = result.loc[(str(row.aux_dim), row.inputs), ["mean", "low", "high", "n"]].tolist()
        assert ours == pytest.approx([row.difference, row.low, row.high, row.n], abs=1e-6)


def test_a_filter_and_a_missing_partner(ask):
    table = scores().drop(index=0)
    widget = widgets.Results(table, factors=["inputs", "aux_dim"], where={"aux_dim": "1"})
    question = {
        "factor": "inputs",
        "hue": "(none)",
        "measure": "accuracy",
        "baseline": "images",
        "where": widget.where,
    }
    (row,) = ask("choose", [widget.data, question])
    assert (row["n"], row["single"], row["repeated"]) == (7, 1, False)
    del question["where"]["aux_dim"]
    with pytest.raises(AssertionError):  # a factor without a chosen level keeps no row at all
        assert ask("choose", [widget.data, question | {"where": {}}])


@pytest.mark.parametrize("freedom", [1, 2, 7, 39, 499])
def test_the_quantile_is_students(ask, freedom):
    assert ask("quantile", freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-8)


# Tables


def test_an_unknown_column_is_named():
    with pytest.raises(ValueError, match=r"no column 'width'"):
        widgets.Results(scores(), factors=["width"])


# The noise bench, and what a live kernel does


def bench(**options):
    generator = np.random.default_rng(3)
    looks = []
    for family, parameter in itertools.product(("uniform", "smooth"), (0.5, 1.0)):
        sample = generator.uniform(-1, 1, (8, 8))
        spectra = {"spectrum": [4.0, 2.0], "singular": [3.0, 1.0]}
        looks.append({"family": family, "parameter": parameter, "sample": sample, **spectra})
    measured = pd.DataFrame([("uniform", 1.0, 0.6, 0.5, 0.7, 8)], columns=widgets.ACCURACY_COLUMNS)
    return widgets.NoiseBench(pd.DataFrame(looks), measured, **options)


def test_the_bench_shows_the_nearest_measured_setting(ask):
    entries = bench(recompute=lambda family, parameter: None).accuracies
    entries.append({**entries[0], "parameter": 3.0})
    assert ask("nearest", [entries, "uniform", 1.9])["parameter"] == 1.0
    assert ask("nearest", [entries, "uniform", 2.1])["parameter"] == 3.0
    assert ask("nearest", [entries, "smooth", 1.0]) is None


def test_a_live_bench_asks_the_kernel_for_a_setting():
    asked = []

    def recompute(family, parameter):
        asked.append((family, parameter))
        return {
            "family": family,
            "parameter": parameter,
            "mean": 0.3,
            "low": None,
            "high": None,
            "n": 1,
        }

    live = bench(recompute=recompute)
    assert live.live
    click = {"do": "compute", "family": "smooth", "parameter": 0.5}
    message = {"content": {"data": {"method": "custom", "content": click}}, "buffers": []}
    live.comm.handle_msg(message)
    assert asked == [("smooth", 0.5)]
    assert [(row["family"], row["n"]) for row in live.accuracies] == [("uniform", 8), ("smooth", 1)]
    assert not bench().live


def test_the_bench_names_a_missing_column():
    with pytest.raises(ValueError, match="no column 'sample'"):
        widgets.NoiseBench(
            pd.DataFrame(columns=["family", "parameter"]),
            pd.DataFrame(columns=widgets.ACCURACY_COLUMNS),
        )


def pairs(**options):
    generator = np.random.default_rng(3)
    words, numbers = ["owl", "fox", "bee"], [f"{place:03d}" for place in range(40)]
    sides = {
        name: generator.normal(0, size, (3, 40)) for name, size in (("cosine", 0.1), ("lift", 4.0))
    }
    return widgets.Partners(words, numbers, sides, **options), sides


def test_partners_keep_their_values_to_a_part_of_the_range(ask):
    shown, sides = pairs()
    state = {name: getattr(shown, name) for name in ("words", "numbers", "measures")}
    for name, matrix in sides.items():
        assert np.abs(shown.matrix(name) - matrix).max() <= np.abs(matrix).max() / 250
        result = ask("ranked", [state, "fox", name])
        right = np.argsort(-shown.matrix(name)[1], kind="stable")
        assert [number for _, number, _ in result] == [f"{place:03d}" for place in right]
        assert [value for *_, value in result] == pytest.approx(
            shown.matrix(name)[1, right].tolist()
        )


SEARCHES = [
    ("Owl", 40, {"owl"}),
    ("007", 3, {"owl", "fox", "bee"}),
    ("bee 007", 1, {"bee"}),
    ("x", 0, set()),
]


@pytest.mark.parametrize(("text", "count", "words"), SEARCHES)
def test_a_search_takes_a_word_a_number_or_both(ask, text, count, words):
    shown, _ = pairs()
    result = ask(
        "ranked",
        [{name: getattr(shown, name) for name in ("words", "numbers", "measures")}, text, "lift"],
    )
    assert len(result) == count
    assert {word for word, *_ in result} == words
    assert [value for *_, value in result] == sorted((value for *_, value in result), reverse=True)


def test_partners_name_a_matrix_of_another_shape():
    with pytest.raises(ValueError, match="'lift' must hold finite numbers of shape"):
        widgets.Partners(["owl"], ["007"], {"lift": np.zeros((2, 1))})


def test_a_value_out_of_range_is_refused():
    with pytest.raises(Exception, match="aux_dim"):
        widgets.Laboratory(aux_dim=0)
