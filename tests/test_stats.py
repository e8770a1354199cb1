"""Statistics have known answers: by hand, by scipy and statsmodels, and by simulation."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import seaborn
from hypothesis import assume, given, settings
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


# ---------------------------------------------------------------- shares, spreads and peaks


@given(accuracies)
def test_the_interval_of_a_share_holds_its_mean_and_stays_between_0_and_1(values):
    low, high = stats.share_interval(values)
    mean = np.mean(values)
    assert 0 <= low <= mean + 1e-12 and mean - 1e-12 <= high <= 1


@given(accuracies)
def test_shares_and_their_complements_have_mirrored_intervals(values):
    assume(np.array_equal(1 - (1 - np.array(values)), values))  # else their complement is another
    low, high = stats.share_interval(values)
    mirrored = stats.share_interval(1 - np.array(values))
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)


@pytest.mark.parametrize("n", [2, 8, 25])
def test_shares_of_which_all_are_0_or_1_leave_room(n):
    """Clopper and Pearson: n zeros of n come in one of 40 draws where the mean is at the bound."""
    expected = scipy.stats.binomtest(0, n).proportion_ci(0.95, "exact")
    assert stats.share_interval([0.0] * n) == pytest.approx((0, expected.high))
    assert stats.share_interval([1.0] * n) == pytest.approx((1 - expected.high, 1))


def test_the_interval_of_a_share_by_hand():
    # mean 1/2, standard error 1/4, slope of the log-odds 1/(1/2 * 1/2) = 4: half width 1 * t
    low, high = stats.share_interval([0.25, 0.75])
    odds = np.exp(scipy.stats.t(1).ppf(0.975))
    assert (low, high) == pytest.approx((1 / (1 + odds), odds / (1 + odds)))


def test_middling_shares_of_many_models_have_the_t_interval():
    values = np.random.default_rng(0).normal(0.5, 0.05, 200)
    assert stats.share_interval(values) == pytest.approx(stats.interval(values), abs=1e-4)


def test_shares_near_one_have_a_lopsided_interval():
    values = [0.99, 0.95, 0.999, 0.97]
    low, high = stats.share_interval(values)
    assert stats.interval(values)[1] > 1 > high
    assert np.mean(values) - low > high - np.mean(values)


@pytest.mark.parametrize(("mean", "spread"), [(0.55, 30), (0.1, 100), (0.97, 200)])
def test_the_interval_of_a_share_covers_as_often_as_it_says(mean, spread):
    draws = np.random.default_rng(0).beta(mean * spread, (1 - mean) * spread, size=(2000, 5))
    covered = np.mean([low <= mean <= high for low, high in map(stats.share_interval, draws)])
    assert abs(covered - 0.95) < 0.02  # four standard errors


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_share_lies_between_0_and_1(value):
    with pytest.raises(ValueError, match="A share lies between 0 and 1"):
        stats.share_interval([0.5, value])


@pytest.mark.parametrize("name", ["accuracy", "ceiling", "share of variance", "AUC"])
def test_what_is_named_as_a_share_gets_the_interval_of_one(name):
    values = [0.8, 0.99]
    assert stats.interval_of(name, values) == stats.share_interval(values)
    assert stats.interval_of("nats", values) == stats.interval(values)


def test_the_interval_of_a_spread_by_hand():
    # variance 2.5, 4 degrees of freedom: chi square leaves 2.5 % below .484419 and above 11.14329
    low, high = stats.sd_interval([1, 2, 3, 4, 5])
    assert (low, high) == pytest.approx(((10 / 11.14329) ** 0.5, (10 / 0.484419) ** 0.5))


def test_the_interval_of_a_spread_covers_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.55, 0.09, size=(2000, 8))
    covered = np.mean([low <= 0.09 <= high for low, high in map(stats.sd_interval, draws)])
    assert abs(covered - 0.95) < 0.02


def curves(means, noise, models, seed=0):
    draw = np.random.default_rng(seed)
    rows = []
    for model in range(models):
        offset = draw.normal(0, 0.1)
        for level, mean in enumerate(means):
            value = mean + offset + draw.normal(0, noise)
            rows.append({"level": f"x{level}", "seed": 0, "model": model, "accuracy": value})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("models", [4, 5, 12])
def test_a_true_peak_is_found(models):
    table = curves([0.2, 0.5, 0.8, 0.5, 0.3], 0.02, models)
    rows = stats.peak(table, "level")
    assert list(rows) == ["part", "difference", "low", "high", "p", "n"]
    assert list(rows.part) == ["rise", "fall"]
    assert rows.difference.tolist() == pytest.approx([0.6, 0.5], abs=0.05)
    assert (rows.low > 0).all() and (rows.n == models).all()


def test_the_levels_of_a_peak_stand_in_their_order():
    table = curves([0.2, 0.8, 0.5], 0.001, 6)
    renamed = table.assign(level=table.level.map({"x0": "ten", "x1": "a lot", "x2": "100"}))
    shuffled = renamed.sort_values("level", key=lambda names: names == "100", kind="stable")
    assert stats.peak(shuffled, "level").difference.tolist() == pytest.approx([0.6, 0.3], abs=0.01)


@pytest.mark.parametrize("means", [[0.5] * 6, [0.3, 0.4, 0.5, 0.6, 0.6, 0.6], [0.9, 0.6, 0.6, 0.6]])
def test_noise_makes_no_peak(means):
    found = 0
    for seed in range(400):
        rows = stats.peak(curves(means, 0.1, 8, seed=seed), "level")
        found += (rows.low > 0).all()
    assert (
        found / 400 < 0.025 + 0.025
    )  # each of two one-sided tests at 2.5 %; three standard errors


def test_a_peak_at_the_end_does_not_fall():
    rows = stats.peak(curves([0.2, 0.4, 0.6, 0.8], 0.02, 6), "level").set_index("part")
    assert rows.low["rise"] > 0 and rows.difference["fall"] == 0 and rows.p["fall"] == 1


def test_a_peak_needs_four_models():
    with pytest.raises(ValueError, match="peak needs 4 or more models, got 3"):
        stats.peak(curves([0.2, 0.5, 0.2], 0.1, 3), "level")


# ---------------------------------------------------------------- tables


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
        assert (row.low, row.high) == pytest.approx(stats.share_interval(values))
    losses = table.rename(columns={"accuracy": "loss"})
    for row in stats.summary(losses, ["inputs", "aux_dim"], "loss").itertuples():
        values = losses[(losses.inputs == row.inputs) & (losses.aux_dim == row.aux_dim)].loss
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
    axes = seaborn.pointplot(table, x="aux_dim", y="accuracy", errorbar=stats.share_interval)
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
