"""Statistics have known answers: by hand, by scipy and statsmodels, and by simulation."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import seaborn
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from statsmodels.stats.power import TTestIndPower, TTestPower

from sublearn import stats

accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=30)


def results(models=6, seeds=(0, 1), dims=(1, 3, 10), inputs=("uniform",)):
    draw = np.random.default_rng(5)
    rows = [
        {"inputs": kind, "aux_dim": dim, "seed": seed, "model": model, "accuracy": draw.uniform()}
        for kind in inputs
        for dim in dims
        for seed in seeds
        for model in range(models)
    ]
    return pd.DataFrame(rows)


def test_interval_by_hand():
    # mean 3, sd sqrt(2.5), standard error sqrt(0.5)
    # Student's t with 4 degrees of freedom leaves 2.5 % above 2.776445
    assert stats.interval([1, 2, 3, 4, 5]) == pytest.approx(
        (3 - 2.776445 * 0.5**0.5, 3 + 2.776445 * 0.5**0.5)
    )
    # 1 degree of freedom: 25 % lie above 1
    assert stats.interval([0, 2], level=0.5) == pytest.approx((0, 2))


@given(
    accuracies.filter(lambda values: np.ptp(values) > 1e-6), st.sampled_from([0.5, 0.9, 0.95, 0.99])
)
def test_interval_against_scipy(values, level):
    sem = scipy.stats.sem(values)
    theirs = scipy.stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=sem)
    assert stats.interval(values, level) == pytest.approx(theirs)


@given(accuracies, st.floats(-10, 10), st.floats(-10, 10))
def test_interval_moves_and_stretches_with_the_values(values, shift, scale):
    low, high = sorted(shift + scale * end for end in stats.interval(values))
    assert stats.interval(shift + scale * np.array(values)) == pytest.approx((low, high), abs=1e-9)


def test_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.55, 0.09, size=(2000, 4))
    covered = np.mean([low <= 0.55 <= high for low, high in map(stats.interval, draws)])
    assert abs(covered - 0.95) < 0.02  # four standard errors


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_equal_values_have_an_interval_of_no_width_and_no_warning(value):
    assert stats.interval([value] * 5) == (value, value)
    table = results(seeds=(0,)).assign(accuracy=value)
    changes = stats.paired(table, "aux_dim", against=1)
    assert changes[["difference", "low", "high"]].eq(0).all(axis=None)
    assert changes.p.eq(1).all()


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_value_has_no_interval(values):
    message = f"needs 2 or more values, got {len(values)}: run more models"
    with pytest.raises(ValueError, match=message):
        stats.interval(values)


@pytest.mark.parametrize("lost", [np.nan, np.inf])
def test_values_must_be_finite(lost):
    table = results().assign(accuracy=lambda table: table.accuracy.where(table.index != 20, lost))
    with pytest.raises(ValueError, match="1 of 3 values are not finite"):
        stats.interval([0.5, lost, 0.7])
    with pytest.raises(ValueError, match="1 of 12 values are not finite where aux_dim = 3"):
        stats.summary(table, "aux_dim")
    with pytest.raises(ValueError, match="not finite where aux_dim = 3"):
        stats.paired(table, "aux_dim", against=1)


def test_summary_is_the_interval_of_each_group():
    table = results(inputs=("uniform", "images"))
    rows = stats.summary(table, ["inputs", "aux_dim"])
    assert list(rows) == ["inputs", "aux_dim", "mean", "low", "high", "sd", "n"]
    assert (
        list(rows.inputs) == ["uniform"] * 3 + ["images"] * 3
    )  # order of appearance, not of the alphabet
    for row in rows.itertuples():
        values = table[(table.inputs == row.inputs) & (table.aux_dim == row.aux_dim)].accuracy
        assert (row.mean, row.sd, row.n) == pytest.approx((values.mean(), values.std(), 12))
        assert (row.low, row.high) == pytest.approx(stats.interval(values))


def test_summary_groups_by_tuples_and_by_nothing():
    table = results().assign(hidden=[(256, 256), (64,)] * 18, shared=None)
    assert list(stats.summary(table, ["hidden", "shared", "aux_dim"]).hidden.unique()) == [
        (256, 256),
        (64,),
    ]
    (row,) = stats.summary(table[table.aux_dim == 3], []).itertuples()
    assert row.mean == pytest.approx(table[table.aux_dim == 3].accuracy.mean())


def test_a_figure_draws_the_tables_intervals():
    table = results()
    axes = seaborn.pointplot(table, x="aux_dim", y="accuracy", errorbar=stats.interval)
    bars = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 2]
    pyplot.close(axes.figure)
    assert np.array(bars) == pytest.approx(
        stats.summary(table, "aux_dim")[["low", "high"]].to_numpy()
    )


def test_paired_against_scipy():
    table = results(inputs=("uniform", "images"))
    rows = stats.paired(table, "aux_dim", against=3, by="inputs")
    assert list(rows) == ["inputs", "aux_dim", "difference", "low", "high", "p", "n"]
    assert list(rows.aux_dim) == [1, 10, 1, 10]
    for row in rows.itertuples():
        arms = table[table.inputs == row.inputs].groupby("aux_dim").accuracy
        test = scipy.stats.ttest_rel(arms.get_group(row.aux_dim), arms.get_group(3))
        difference = arms.get_group(row.aux_dim).mean() - arms.get_group(3).mean()
        assert (row.difference, row.p, row.n) == pytest.approx((difference, test.pvalue, 12))
        assert (row.low, row.high) == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_paired_matches_models_not_rows():
    table = results()
    shuffled = table.sample(frac=1, random_state=3)
    rows = stats.paired(table, "aux_dim", against=1)
    again = (
        stats.paired(shuffled, "aux_dim", against=1).set_index("aux_dim").loc[[3, 10]].reset_index()
    )
    pd.testing.assert_frame_equal(rows, again)


@given(accuracies, st.floats(-1, 1))
def test_a_constant_shift_has_no_width(values, shift):
    base = pd.DataFrame({"seed": 0, "model": range(len(values)), "accuracy": values, "arm": "base"})
    shifted = base.assign(accuracy=base.accuracy + shift, arm="shifted")
    (row,) = stats.paired(pd.concat([base, shifted]), "arm", against="base").itertuples()
    assert row.difference == pytest.approx(shift, abs=1e-12)
    assert row.high - row.low == pytest.approx(0, abs=1e-12)
    if shift == 0:
        assert row.p == 1
    elif abs(shift) > 1e-3:
        assert row.p < 1e-6


def test_a_missing_partner_is_named():
    table = results()
    lost = (table.seed == 1) & (table.model == 4)
    with pytest.raises(
        ValueError, match="No partner where seed = 1, model = 4: it has one of aux_dim = 10 and 3"
    ):
        stats.paired(
            table[~(lost & (table.aux_dim == 3))].query("aux_dim != 1"), "aux_dim", against=3
        )
    with pytest.raises(
        ValueError, match="No partner where seed = 1, model = 4: it has one of aux_dim = 10 and 3"
    ):
        stats.paired(table[~(lost & (table.aux_dim == 10))], "aux_dim", against=3)


def test_a_model_counts_once():
    table = results(inputs=("uniform", "images"))
    with pytest.raises(
        ValueError, match="several rows where seed = 0, model = 0, aux_dim = 1: name more columns"
    ):
        stats.summary(table, "aux_dim")
    with pytest.raises(ValueError, match="several rows where seed = 0, model = 0, aux_dim = 3"):
        stats.paired(table, "aux_dim", against=3)


def test_wrong_tables_are_refused():
    table = results()
    for call in (stats.summary, lambda table, by: stats.paired(table, by, against=3)):
        with pytest.raises(
            ValueError, match="no column 'aux_dims': it has inputs, aux_dim, seed, model, accuracy"
        ):
            call(table, "aux_dims")
        with pytest.raises(ValueError, match="table is empty"):
            call(table[:0], "aux_dim")
        with pytest.raises(ValueError, match="needs 2 or more values, got 1 where aux_dim = 1"):
            call(table.query("seed == 0 and model == 0"), "aux_dim")
    with pytest.raises(ValueError, match=r"aux_dim = 4 is not there: the table has \[1, 3, 10\]"):
        stats.paired(table, "aux_dim", against=4)
    with pytest.raises(ValueError, match="no column 'model'"):
        stats.paired(table.drop(columns="model"), "aux_dim", against=3)


def test_holm_by_hand():
    # sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04
    # and the last may not be below the one before
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.6, 0.7]) == pytest.approx([1, 1])


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_is_monotone_and_never_below(p):
    adjusted, p = stats.holm(p), np.array(p)
    assert ((adjusted >= p - 1e-15) & (adjusted <= 1)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= -1e-15).all()


@pytest.mark.parametrize("p", [[], [0.1, np.nan], [1.2]])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.holm(p)


@given(st.integers(2, 100))
def test_chance_is_zero_and_perfect_is_one(classes):
    assert stats.chance_corrected(1 / classes, classes) == 0
    assert stats.chance_corrected(1.0, classes) == pytest.approx(1)


def test_chance_correction_of_columns():
    table = pd.DataFrame({"accuracy": [0.75, 0.55], "classes": [2, 10]})
    assert list(stats.chance_corrected(table.accuracy, table.classes)) == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match="2 or more classes"):
        stats.chance_corrected(0.5, 1)


def test_models_needed_against_statsmodels():
    assert stats.models_needed(0.05, 0.091) == 53  # "about 52" by the normal approximation
    solved = TTestIndPower().solve_power(0.05 / 0.091, power=0.8, alpha=0.05)
    assert stats.models_needed(-0.05, 0.091) == np.ceil(solved)
    solved = TTestPower().solve_power(
        0.05 / (0.091 * (2 * (1 - 0.6)) ** 0.5), power=0.9, alpha=0.05
    )
    assert stats.models_needed(0.05, 0.091, power=0.9, paired_correlation=0.6) == np.ceil(solved)
    assert stats.models_needed(50, 0.091) == 2


def test_power_counts_the_tail_that_scipy_can_compute():
    # two pairs have a power of 0.42 to 0.63; the tail below is 0, and often nan in scipy
    for effect in np.linspace(5, 8, 50):
        assert stats.models_needed(effect, 1, paired_correlation=0.5) == 3


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_models_needed_against_simulation(correlation):
    n, draw = (
        stats.models_needed(0.05, 0.091, paired_correlation=correlation),
        np.random.default_rng(1),
    )
    law = 0.091**2 * np.array([[1, correlation], [correlation, 1]])
    arms = draw.multivariate_normal([0.55, 0.6], law, size=(3000, n))
    test = scipy.stats.ttest_rel if correlation else scipy.stats.ttest_ind
    assert np.mean(test(arms[..., 0], arms[..., 1], axis=1).pvalue < 0.05) == pytest.approx(
        0.8, abs=0.03
    )


@given(st.integers(2, 500), st.floats(0.01, 0.5), st.sampled_from([0.0, 0.5, 0.9]))
def test_detectable_undoes_models_needed(n, sd, correlation):
    smallest = stats.detectable(n, sd, paired_correlation=correlation)
    assert stats.models_needed(smallest * 1.0001, sd, paired_correlation=correlation) <= n
    if n > 2:
        assert stats.models_needed(smallest * 0.999, sd, paired_correlation=correlation) >= n


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stats.models_needed(0, 0.1), "difference other than 0"),
        (lambda: stats.models_needed(0.05, 0), "sd > 0"),
        (lambda: stats.models_needed(0.05, 0.1, paired_correlation=1), "correlation inside"),
        (lambda: stats.detectable(1, 0.1), "2 or more models"),
    ],
)
def test_power_refuses_impossible_designs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((0.55, 0.54, 0.56), (0.56, 0.55, 0.57), "agrees"),
        ((0.55, 0.54, 0.56), (0.56, None, None), "agrees (published value has no interval)"),
        ((0.55, 0.54, 0.56), (0.463, 0.447, 0.479), "differs (higher)"),
        ((0.55, 0.54, 0.56), (0.63, 0.60, 0.66), "differs (lower)"),
        (
            (0.55, 0.54, 0.56),
            (0.5, np.nan, np.nan),
            "differs (higher; published value has no interval)",
        ),
        ((0.55, 0.45, 0.65), (0.56, 0.55, 0.57), "undecided"),
        ((0.55, 0.54, 0.56), (0.56, 0.40, 0.72), "undecided"),
        ((0.55, 0.45, 0.65), (0.56, None, None), "undecided (published value has no interval)"),
    ],
)
def test_verdicts(ours, theirs, expected):
    published = dict(zip(("published", "published_low", "published_high"), theirs))
    assert stats.verdict(*ours, **published) == expected


def test_two_intervals_that_overlap_can_still_differ():
    # half widths 0.03 and 0.04: the difference's is 0.05, less than 0.06
    # though [.47, .53] and [.52, .60] overlap
    assert (
        stats.verdict(0.5, 0.47, 0.53, published=0.56, published_low=0.52, published_high=0.6)
        == "differs (lower)"
    )


def test_the_margin_decides_what_is_close_enough():
    assert (
        stats.verdict(0.55, 0.48, 0.62, published=0.55)
        == "undecided (published value has no interval)"
    )
    assert stats.verdict(0.55, 0.48, 0.62, published=0.55, margin=0.1).startswith("agrees")


def test_a_verdict_needs_numbers():
    with pytest.raises(ValueError, match="finite"):
        stats.verdict(0.55, np.nan, np.nan, published=0.5)


@pytest.mark.parametrize(
    ("low", "high", "bound", "expected"),
    [
        (0.52, 0.58, {"above": 0.5}, "holds"),
        (0.48, 0.58, {"above": 0.5}, "undecided"),
        (0.42, 0.48, {"above": 0.5}, "fails"),
        (0.09, 0.11, {"below": 0.15}, "holds"),
        (0.09, 0.16, {"below": 0.15}, "undecided"),
        (0.16, 0.18, {"below": 0.15}, "fails"),
    ],
)
def test_one_sided_claims(low, high, bound, expected):
    assert stats.holds(low, high, **bound) == expected


@pytest.mark.parametrize("bound", [{}, {"above": 0.1, "below": 0.9}])
def test_a_claim_has_one_bound(bound):
    with pytest.raises(ValueError, match="one bound"):
        stats.holds(0.2, 0.3, **bound)
    with pytest.raises(ValueError, match="low <= high"):
        stats.holds(0.3, 0.2, above=0.1)


def test_published_values_are_tidy():
    table = pd.read_csv(stats.PUBLISHED)
    assert list(table) == ["id", "quantity", "source", "value", "low", "high", "n", "note"]
    assert table.id.is_unique
    assert table[["quantity", "source", "value", "note"]].notna().all(axis=None)
    assert table.low.isna().equals(table.high.isna())
    inside = table.dropna(subset="low")
    assert ((inside.low <= inside.value) & (inside.value <= inside.high)).all()


def test_published_values_converted_to_t_intervals_are_what_their_note_says():
    table = pd.read_csv(stats.PUBLISHED)
    parts = table.note.str.extract(
        r"95 % t from (?:the )?(?P<n>\d+) (?:seed means|models).*sd (?P<sd>[\d.]+\d)"
    )
    converted = table.join(parts.astype(float), suffixes=("", "_note")).dropna(subset="sd")
    assert len(converted) >= 6
    half = scipy.stats.t.ppf(0.975, converted.n_note - 1) * converted.sd / converted.n_note**0.5
    assert np.allclose(converted.high - converted.value, half, atol=6e-5)
    assert np.allclose(converted.value - converted.low, half, atol=6e-5)


def test_published_gives_one_quantity():
    rows = stats.published("student_aux")
    assert set(rows.quantity) == {"student_aux"}
    assert len(rows) >= 4
    with pytest.raises(
        ValueError, match=r"Nothing is published on 'student': use one of .*student_aux"
    ):
        stats.published("student")


# ---------------------------------------------------------------- published changes


def _arms(changes, models=6, sd=0.01):
    draw = np.random.default_rng(0)
    base = draw.normal(0.5, 0.1, models)
    return (
        pd.DataFrame(
            {
                "arm": arm,
                "seed": 0,
                "model": range(models),
                "accuracy": base + change + draw.normal(0, sd, models),
            }
            for arm, change in changes.items()
        )
        .explode(["model", "accuracy"])
        .astype({"accuracy": float})
    )


@pytest.mark.parametrize(
    ("published_change", "ours", "sd", "word"),
    [
        (0.2, 0.1, 0.01, "holds"),
        (0.2, -0.1, 0.01, "fails"),
        (-0.2, -0.1, 0.01, "holds"),
        (-0.2, 0.1, 0.01, "fails"),
        (0.2, 0.0, 0.2, "undecided"),
        (0, 0.0, 0.01, "holds"),
        (0, 0.2, 0.01, "fails"),
        (0, 0.0, 0.3, "undecided"),
    ],
)
def test_a_published_change_is_judged_by_its_direction(published_change, ours, sd, word):
    claim = {
        "id": "x",
        "claim": "c",
        "source": "s",
        "change": published_change,
        "ours_from": "a",
        "ours_to": "b",
    }
    judged = stats.judged(_arms({"a": 0.0, "b": ours, "c": 9.0}, sd=sd), pd.DataFrame([claim]))
    assert judged.verdict.item() == word
    assert (
        judged.n.item() == 6 and judged.low.item() < judged.difference.item() < judged.high.item()
    )


def test_every_claim_compares_two_arms_and_has_an_id_of_its_own():
    for chapter in (3, 4):
        claims = stats.claims(chapter)
        assert len(claims) > 10 and claims.id.is_unique
        assert claims.ours_from.str.contains(": ").all() and claims.ours_to.str.contains(": ").all()
        assert (claims.ours_from != claims.ours_to).all()
        assert claims.source.str.startswith("this book").sum() >= 5  # predictions of our own
