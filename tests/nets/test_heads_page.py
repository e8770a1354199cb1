"""Formulas that chapter 6 writes on the page, evaluated as they stand there."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from sublearn.nets.settings import PARTS

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "06_heads.ipynb"


def function(name, **known):
    """A function that a cell of the notebook defines, with the names that it looks up."""
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith(f"def {name}("):
            exec(source, known)
            return known[name]
    raise AssertionError(f"no cell of {NOTEBOOK.name} begins with def {name}")


def test_effects_of_the_factorial_are_the_slopes_of_a_regression():
    generator = np.random.default_rng(0)
    rows = []
    for hidden, class_head, aux_head in np.ndindex(2, 2, 2):
        rows.append({"hidden": hidden, "class_head": class_head, "aux_head": aux_head})
    part = pd.DataFrame(rows).astype(bool).assign(seed=0, model=0, accuracy=generator.random(8))
    effect = function("effect", np=np)
    for of in [["hidden"], ["class_head", "aux_head"], list(PARTS)]:
        codes = 2 * part[list(PARTS)].to_numpy(float) - 1
        columns = [np.prod(codes[:, list(chosen)], axis=1) for chosen in subsets()]
        slopes = sm.OLS(part.accuracy, np.column_stack(columns)).fit().params.to_numpy()
        place = [*subsets()].index(tuple(PARTS.index(name) for name in of))
        assert effect(of, part).item() == pytest.approx(2 * slopes[place])


def subsets():
    return [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


def test_a_main_effect_is_what_sharing_changes_on_average():
    part = pd.DataFrame(
        [
            {"hidden": h, "class_head": c, "aux_head": a, "accuracy": 0.1 + 0.2 * h + 0.3 * (c & a)}
            for h in (False, True)
            for c in (False, True)
            for a in (False, True)
        ]
    ).assign(seed=0, model=0)
    effect = function("effect", np=np)
    assert effect(["hidden"], part).item() == pytest.approx(0.2)
    assert effect(["class_head"], part).item() == pytest.approx(0.15)
    assert effect(["class_head", "aux_head"], part).item() == pytest.approx(0.15)
    assert effect(list(PARTS), part).item() == pytest.approx(0)


def test_a_curve_crosses_where_a_line_on_the_logarithmic_axis_does():
    crossing = function("crossing", np=np)
    at = np.array([3, 30, 300])
    short = np.array([0.5, 0.1, 0.01])
    fine = np.geomspace(3, 300, 100_001)
    curve = np.interp(np.log(fine), np.log(at), short)
    assert crossing(short, at) == pytest.approx(fine[np.argmax(curve < 0.05)], rel=1e-3)
    assert crossing(short, at, near=0.3) == pytest.approx(fine[np.argmax(curve < 0.3)], rel=1e-3)
    assert crossing(np.array([0.01, 0.0, 0.0]), at) == pytest.approx(3)
    assert crossing(np.array([0.5, 0.4, 0.3]), at) == np.inf
    earlier = crossing(short - 0.05, at)
    assert earlier < crossing(short, at)  # the lower end of an interval crosses first
