"""The scorecard: every rule on made-up intervals, on both sides of every bound."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from sublearn.report import scorecard
from sublearn.report.scorecard import KINDS, VERDICTS, Estimate, Published, judge
from sublearn.stats import interval, share_interval

NAN = math.nan
CLAIM = Published(NAN, NAN, NAN, 0.0, 0.05)
values = st.floats(-1, 1)
halves = st.floats(0.001, 1)
counts = st.integers(2, 100)


def around(value, half, n=20):
    return Estimate(value, value - half, value + half, n)


def sample(mean, sd, n=12, seed=0):
    """n values with exactly this mean and standard deviation."""
    draw = np.random.default_rng(seed).normal(size=n)
    return mean + sd * (draw - draw.mean()) / draw.std(ddof=1)


def estimate_of(values):
    return Estimate(np.mean(values), *interval(values), len(values))


def verdict(kind, *estimates, **claim):
    return judge(kind, estimates, CLAIM._replace(**claim)).verdict


# ---------------------------------------------------------------- tests on an estimate


@pytest.mark.parametrize("bound", [-0.2, 0.0, 0.05, 0.3])
def test_p_values_are_those_of_the_t_test_from_the_data(bound):
    values = sample(0.05, 0.1)
    ours = estimate_of(values)
    for alternative, p in (("greater", scorecard.p_above), ("less", scorecard.p_below)):
        test = scipy.stats.ttest_1samp(values, bound, alternative=alternative)
        assert p(ours, bound) == pytest.approx(test.pvalue)


@pytest.mark.parametrize("mean", [0.0, 0.03, -0.06])
def test_equivalence_is_that_of_statsmodels(mean):
    values = sample(mean, 0.06, n=9)
    p, *_ = DescrStatsW(values).ttost_mean(0.01 - 0.05, 0.01 + 0.05)
    assert scorecard.p_within(estimate_of(values), 0.01, 0.05) == pytest.approx(p)


def test_a_lopsided_interval_counts_on_the_side_of_the_bound():
    values = [0.99, 0.95, 0.999, 0.97]
    ours = Estimate(np.mean(values), *share_interval(values), 4)
    quantile = scipy.stats.t(3).ppf(0.975)
    assert scorecard.standard_error(ours, 0.9) == pytest.approx((ours.value - ours.low) / quantile)
    assert scorecard.standard_error(ours, 1.0) == pytest.approx((ours.high - ours.value) / quantile)


def test_without_n_the_normal_law_is_taken():
    ours = Estimate(1.0, 0.0, 2.0)
    assert scorecard.p_above(ours, 0.0) == pytest.approx(0.025)
    assert verdict("more", ours, bound=0.01) == "undecided"
    assert verdict("more", ours, bound=-0.01) == "reproduced"


def test_an_interval_of_no_width_is_certain():
    ours = around(0.3, 0.0)
    assert scorecard.p_above(ours, 0.2) == 0 and scorecard.p_above(ours, 0.3) == 1
    assert scorecard.p_below(ours, 0.4) == 0 and scorecard.p_below(ours, 0.3) == 1
    assert verdict("more", ours, bound=0.3) == "not reproduced"
    assert math.isnan(judge("more", [ours], CLAIM._replace(bound=0.3)).needed)


def test_the_difference_to_a_published_value_has_both_uncertainties():
    ours = around(0.5, 0.03)
    theirs = Published(0.56, 0.52, 0.6, NAN, 0.01)
    gap = scorecard.difference(ours, theirs)
    assert gap[:3] == pytest.approx((-0.06, -0.11, -0.01))  # 3, 4, 5: less than 0.06
    exact = scorecard.difference(ours, theirs._replace(low=NAN))
    assert exact[:3] == pytest.approx((-0.06, -0.09, -0.03))
    lopsided = scorecard.difference(Estimate(0.5, 0.47, 0.54), Published(0.5, 0.46, 0.53, NAN, 0))
    assert lopsided[:3] == pytest.approx((0, -math.hypot(0.03, 0.03), math.hypot(0.04, 0.04)))


# ---------------------------------------------------------------- the rules


@given(values, halves, counts, values)
def test_more_and_less_are_sure_where_the_interval_leaves_out_the_bound(value, half, n, bound):
    ours = around(value, half, n)
    if min(abs(ours.low - bound), abs(ours.high - bound)) < 1e-6:
        return
    above, below = ours.low > bound, ours.high < bound
    words = ("reproduced", "contradicted") if above else ("contradicted", "reproduced")
    if above or below:
        assert (verdict("more", ours, bound=bound), verdict("less", ours, bound=bound)) == words
        words = ["reproduced" if above else "contradicted"]
        assert [verdict("at least", ours, bound=bound)] == words
        assert verdict("at most", ours, bound=bound) != words[0]
    else:
        for kind in ("more", "less"):
            assert verdict(kind, ours, bound=bound) in ("undecided", "not reproduced")
        for kind in ("at least", "at most"):
            assert verdict(kind, ours, bound=bound) == "undecided"


@pytest.mark.parametrize(
    ("value", "half", "more", "less"),
    [
        (0.10, 0.09, "reproduced", "contradicted"),
        (0.10, 0.11, "undecided", "undecided"),
        (-0.10, 0.09, "contradicted", "reproduced"),
        (-0.10, 0.11, "undecided", "undecided"),
        (0.01, 0.02, "not reproduced", "not reproduced"),  # inside the margin of 0.05
        (0.01, 0.06, "undecided", "undecided"),
        (0.01, 0.005, "reproduced", "contradicted"),  # small, but sure
    ],
)
def test_more_and_less(value, half, more, less):
    ours = around(value, half)
    assert (verdict("more", ours), verdict("less", ours)) == (more, less)


@pytest.mark.parametrize(("kind", "sign"), [("more", 1), ("less", -1)])
def test_an_effect_too_small_to_matter_needs_both_one_sided_tests(kind, sign):
    half = 0.03  # of a 95 % interval, n = 20
    ninety = half * scipy.stats.t(19).ppf(0.95) / scipy.stats.t(19).ppf(0.975)
    inside = around(sign * (0.05 - ninety - 1e-6), half)
    outside = around(sign * (0.05 - ninety + 1e-6), half)
    assert verdict(kind, inside) == "not reproduced"
    assert verdict(kind, outside) == "undecided"


@pytest.mark.parametrize(
    ("kind", "value", "half", "word"),
    [
        ("at least", 0.97, 0.01, "reproduced"),
        ("at least", 0.97, 0.03, "undecided"),
        ("at least", 0.93, 0.03, "undecided"),
        ("at least", 0.93, 0.01, "contradicted"),
        ("at least", 0.949, 0.002, "undecided"),  # no margin: it does not come close, it reaches
        ("at most", 0.93, 0.01, "reproduced"),
        ("at most", 0.93, 0.03, "undecided"),
        ("at most", 0.97, 0.03, "undecided"),
        ("at most", 0.97, 0.01, "contradicted"),
    ],
)
def test_levels(kind, value, half, word):
    assert verdict(kind, around(value, half), bound=0.95, margin=NAN) == word


@pytest.mark.parametrize(
    ("value", "half", "word"),
    [
        (0.0, 0.03, "reproduced"),
        (-0.029, 0.018, "reproduced"),  # it excludes zero, and lies within five points
        (0.0, 0.065, "undecided"),
        (0.04, 0.03, "undecided"),  # across the margin's edge, excluding zero
        (-0.06, 0.03, "undecided"),
        (0.09, 0.03, "contradicted"),
        (-0.09, 0.03, "contradicted"),
        (0.0, 0.5, "undecided"),
    ],
)
def test_no_difference(value, half, word):
    assert verdict("no difference", around(value, half)) == word
    assert verdict("no difference", around(value + 0.3, half), bound=0.3) == word


@given(values, halves, counts)
def test_no_difference_by_its_intervals(value, half, n):
    ours = around(value, half, n)
    ninety = half * scipy.stats.t(n - 1).ppf(0.95) / scipy.stats.t(n - 1).ppf(0.975)
    edges = [abs(value) + ninety, abs(value) - half]
    if min(abs(edge - 0.05) for edge in edges) < 1e-6:
        return
    expected = "undecided"
    if edges[0] < 0.05:
        expected = "reproduced"
    elif edges[1] > 0.05:
        expected = "contradicted"
    assert verdict("no difference", ours) == expected


@pytest.mark.parametrize(
    ("value", "half", "word"),
    [
        (0.55, 0.03, "reproduced"),
        (0.57, 0.02, "reproduced"),  # it differs, but by less than the margin
        (0.55, 0.08, "undecided"),
        (0.62, 0.08, "undecided"),
        (0.40, 0.03, "same direction"),  # above the 0.1 of no effect, as the published value is
        (0.11, 0.03, "not reproduced"),  # no effect at all
        (0.15, 0.06, "not reproduced"),  # it differs; on which side of no effect is not known
        (0.05, 0.03, "contradicted"),
    ],
)
def test_a_published_value(value, half, word):
    claim = {"value": 0.55, "bound": 0.1, "margin": 0.05}
    assert verdict("value", around(value, half), **claim) == word
    mirrored = {"value": -0.55, "bound": -0.1, "margin": 0.05}
    assert verdict("value", around(-value, half), **mirrored) == word


def test_a_published_value_without_a_bound_has_no_direction():
    claim = {"value": 0.55, "bound": NAN, "margin": 0.05}
    assert verdict("value", around(0.4, 0.03), **claim) == "not reproduced"
    assert verdict("value", around(0.55, 0.03), **claim) == "reproduced"


def test_a_published_interval_makes_it_harder_to_differ():
    claim = {"value": 0.5, "bound": NAN, "margin": 0.01}
    ours = around(0.56, 0.03)
    assert verdict("value", ours, **claim) == "not reproduced"
    assert verdict("value", ours, low=0.46, high=0.54, **claim) == "not reproduced"
    assert verdict("value", ours, low=0.44, high=0.56, **claim) == "undecided"


def test_a_value_that_differs_surely_has_a_small_p_value():
    claim = CLAIM._replace(value=0.55, bound=0.1)
    judged = judge("value", [around(0.15, 0.06)], claim)
    assert judged.verdict == "not reproduced" and judged.p < 0.001


@pytest.mark.parametrize(
    ("value", "half", "published", "word"),
    [
        (0.17, 0.10, 0.17, "reproduced"),
        (0.17, 0.20, 0.17, "undecided"),
        (0.80, 0.05, 0.17, "same direction"),
        (-0.17, 0.10, 0.17, "contradicted"),
        (0.01, 0.02, 0.17, "not reproduced"),
        (-0.17, 0.10, -0.17, "reproduced"),
        (0.17, 0.10, -0.17, "contradicted"),
        (0.0, 0.05, 0.0, "reproduced"),
        (0.3, 0.05, 0.0, "contradicted"),
        (0.1, 0.05, 0.0, "undecided"),
    ],
)
def test_correlations(value, half, published, word):
    claim = {"value": published, "bound": NAN, "margin": 0.1}
    assert verdict("correlation", around(value, half), **claim) == word


@pytest.mark.parametrize("kind", ["order", "shape"])
@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([(0.2, 0.1)], "reproduced"),
        ([(0.2, 0.1), (0.3, 0.1), (0.1, 0.09)], "reproduced"),
        ([(0.2, 0.1), (0.3, 0.1), (0.1, 0.11)], "undecided"),
        ([(0.2, 0.1), (-0.3, 0.1)], "contradicted"),
        ([(0.2, 0.1), (-0.1, 0.11)], "undecided"),
    ],
)
def test_an_order_and_a_shape_hold_in_all_their_parts(kind, parts, word):
    assert verdict(kind, *(around(*part) for part in parts)) == word


def test_one_part_of_many_contradicts_only_after_bonferroni():
    for part, alone in (
        (around(-0.1, 0.095), "contradicted"),
        (around(-0.1, 0.05), "contradicted"),
    ):
        assert verdict("shape", part) == alone
    fine = [around(0.5, 0.1)] * 9
    assert verdict("shape", around(-0.1, 0.095), *fine) == "undecided"
    assert verdict("shape", around(-0.1, 0.05), *fine) == "contradicted"
    p = judge("shape", [around(-0.1, 0.05)], CLAIM).p
    assert judge("shape", [around(-0.1, 0.05), *fine], CLAIM).p == pytest.approx(10 * p)


def test_a_rule_of_one_quantity_refuses_several():
    with pytest.raises(ValueError, match="too many values"):
        verdict("more", around(0, 1), around(0, 1))


@given(values, halves, counts, st.sampled_from(KINDS))
def test_every_kind_gives_a_known_word_and_a_p_value(value, half, n, kind):
    claim = Published(0.3, NAN, NAN, 0.1, 0.05)
    judged = judge(kind, [around(value, half, n)], claim)
    assert judged.verdict in VERDICTS and 0 <= judged.p <= 1
    if judged.verdict == "undecided":
        assert not judged.needed < 2
    else:
        assert math.isnan(judged.needed)
        assert judged.p < scorecard.LEVEL


# ---------------------------------------------------------------- models that would decide


def test_the_models_needed_would_decide():
    ours = estimate_of(sample(0.05, 0.1, n=6))
    judged = judge("more", [ours], CLAIM)
    assert judged.verdict == "undecided"
    assert judged.needed == pytest.approx((2.8 * 0.1 / 0.05) ** 2, rel=0.1)
    more = estimate_of(sample(0.05, 0.1, n=int(judged.needed)))
    assert verdict("more", more) == "reproduced"


@pytest.mark.parametrize("kind", ["more", "less", "no difference", "value", "shape", "at least"])
def test_more_noise_needs_more_models(kind):
    claim = CLAIM._replace(value=0.0)
    needed = []
    for sd in (0.1, 0.2, 0.4):
        judged = judge(kind, [estimate_of(sample(0.02, sd, n=5))], claim)
        assert judged.verdict == "undecided"
        needed.append(judged.needed)
    assert needed == sorted(needed) and needed[0] < needed[-1]


def test_a_tiny_difference_is_decided_by_the_margin():
    nearly = estimate_of(sample(0.001, 0.1, n=6))
    judged = judge("more", [nearly], CLAIM)
    assert judged.needed < 50  # to see that it is within 0.05, not the 80,000 that see 0.001
    assert (
        verdict("more", estimate_of(sample(0.001, 0.1, n=int(judged.needed)))) == "not reproduced"
    )
    assert judge("value", [nearly], CLAIM._replace(value=0.0)).needed < 50


@pytest.mark.parametrize("distance", [0.0, 1e-9, 1e-15])
def test_no_number_of_models_shows_next_to_nothing(distance):
    ours = estimate_of(sample(0.9 + distance, 0.1, n=6))
    assert not judge("at least", [ours], CLAIM._replace(bound=0.9)).needed < 1e12
    assert not judge("shape", [ours], CLAIM._replace(bound=0.9)).needed < 1e12


def test_needed_models_are_unknown_without_n():
    assert math.isnan(judge("more", [Estimate(0.1, -0.1, 0.3)], CLAIM).needed)


# ---------------------------------------------------------------- a chapter's claims


def claims(**quantities):
    """A claim "more than 0" for each quantity, named by its id; the chapter is its last digit."""
    rows = []
    for name, kind in quantities.items():
        row = {"id": name, "source": "someone", "chapter": int(name[-1]), "kind": kind}
        row |= {"claim": name, "quantity": name, "bound": 0.0, "margin": 0.05}
        rows.append(row)
    columns = list(scorecard.read_claims())
    return pd.DataFrame(rows).reindex(columns=columns)


def records(chapter, **estimates):
    rows = []
    for name, (value, low, high, n) in estimates.items():
        rows.append({"chapter": chapter, "name": name, "value": value, "low": low, "high": high})
        rows[-1]["n"] = n
    return pd.DataFrame(rows)


def test_holm_counts_the_claims_of_one_chapter():
    three = claims(a1="more", b1="more", c1="less", a2="more")
    weak = around(0.1, 0.09)
    ours = pd.concat([
        records(1, a1=weak, b1=around(0.5, 0.1), c1=around(0.1, 0.2)),
        records(2, a2=weak, b1=weak),
    ])  # fmt: skip
    table = scorecard.scorecard(ours, three).set_index("id")
    assert list(table.verdict) == ["reproduced", "reproduced", "undecided", "reproduced"]
    adjusted = multipletests(table.p[:3], method="holm")[1]
    assert (adjusted < 0.05).tolist() == [False, True, False]
    assert list(table.corrected) == ["undecided", "reproduced", "undecided", "reproduced"]


def test_what_was_not_recorded_was_not_run():
    two = claims(a1="more", b1="more")
    for ours in (records(1, a1=around(0.1, 0.05)), records(2, b1=around(0.1, 0.05))):
        table = scorecard.scorecard(ours, two)
        assert table.verdict.iloc[1] == table.corrected.iloc[1] == "not run"
        assert table[["value", "low", "high", "n", "p", "needed"]].iloc[1].isna().all()
    single = records(1, a1=around(0.1, 0.05), b1=(0.5, NAN, NAN, 1))
    assert scorecard.scorecard(single, two).verdict.tolist() == ["reproduced", "not run"]
    for nothing in (pd.DataFrame(), scorecard.read_records(scorecard.REFERENCE / "nowhere")):
        assert set(scorecard.scorecard(nothing, two).verdict) == {"not run"}


def test_a_claim_of_several_parts_shows_its_weakest():
    order = claims(a1="order").assign(quantity="x;y")
    ours = records(1, x=around(0.3, 0.1), y=around(0.2, 0.1))
    (row,) = scorecard.scorecard(ours, order).itertuples()
    assert (row.verdict, row.value) == ("reproduced", 0.2)
    assert scorecard.scorecard(ours[:1], order).verdict.item() == "not run"


def test_arms_are_compared_model_by_model():
    claim = scorecard.read_claims().query("id == 'P-9'").iloc[0]
    draw = np.random.default_rng(0).normal(0.5, 0.2, 6)
    rows = []
    for arm, change in ((claim.baseline, 0), (claim.arm, 0.1), ("of no claim", 0.5)):
        for model, accuracy in enumerate(draw):
            accuracy += change + 0.001 * (-1) ** model * (change > 0)
            rows.append({"arm": arm, "seed": 0, "model": model, "accuracy": accuracy})
    table = pd.DataFrame(rows)
    found = scorecard.contrasts(table, 3)
    assert "P-9" in set(found.id)
    assert (found.arm == claim.arm).all()
    ours = found.set_index("id").loc["P-9"]
    assert ours.quantity == "claim_P-9" and ours.n == 6
    assert (ours.difference, ours.low < 0.1 < ours.high) == (pytest.approx(0.1), True)
    assert ours.high - ours.low < 0.01  # pairs: the spread of the models is gone
    twice = pd.concat([table, table])  # an arm that two sweeps hold
    assert scorecard.contrasts(twice, 3).equals(found)
    assert scorecard.contrasts(table[table.arm != claim.arm], 3).empty


# ---------------------------------------------------------------- the claims themselves


@pytest.fixture(scope="module")
def published():
    return scorecard.read_claims()


def test_claims_are_tidy(published):
    assert len(published) >= 80
    columns = ["id", "source", "chapter", "kind", "claim", "setting", "published"]
    columns += ["published_low", "published_high", "published_n", "quantity", "bound", "margin"]
    assert list(published) == [*columns, "baseline", "arm", "note"]
    assert published.id.is_unique
    assert (
        published[["id", "source", "chapter", "kind", "claim", "quantity"]].notna().all(axis=None)
    )
    assert published.chapter.between(1, 14).all()
    assert set(published.kind) <= set(KINDS)
    text = published.select_dtypes(exclude="number").stack().dropna()
    assert (text == text.str.strip()).all()


def test_claims_have_what_their_kind_needs(published):
    def of(*kinds):
        return published[published.kind.isin(kinds)]

    assert (
        of("more", "less", "at least", "at most", "no difference", "order", "shape")
        .bound.notna()
        .all()
    )
    needs_margin = of("more", "less", "no difference", "value", "correlation")
    assert (needs_margin.margin > 0).all()
    assert of("value", "correlation").published.notna().all()
    assert (of("value").published != of("value").bound).all()  # else there is no direction
    several = published.quantity.str.contains(";")
    assert set(published[several].kind) <= {"order", "shape"}


def test_published_intervals_hold_their_value(published):
    assert published.published_low.isna().equals(published.published_high.isna())
    known = published.dropna(subset="published_low")
    assert known.published.between(known.published_low, known.published_high).all()
    assert (published.published_n.dropna() >= 1).all()


def test_published_intervals_converted_to_t_are_what_their_note_says(published):
    parts = published.note.str.extract(
        r"95 % t from (?:the )?(?P<models>\d+) (?:seed means|models).*sd (?P<sd>[\d.]+\d)"
    )
    converted = published.join(parts.astype(float)).dropna(subset=["sd", "published_low"])
    assert len(converted) >= 6
    half = scipy.stats.t.ppf(0.975, converted.models - 1) * converted.sd / converted.models**0.5
    assert np.allclose(converted.published_high - converted.published, half, atol=6e-5)
    assert np.allclose(converted.published - converted.published_low, half, atol=6e-5)


def test_claims_that_compare_arms_name_two_of_them(published):
    compared = published.dropna(subset="arm")
    assert len(compared) > 20
    assert compared.baseline.notna().all() and (compared.arm != compared.baseline).all()
    assert compared[["arm", "baseline"]].stack().str.contains(": ").all()
    assert published[published.arm.isna()].baseline.isna().all()


def test_a_published_direction_is_that_of_its_claim(published):
    compared = published.dropna(subset=["arm", "published"])
    assert (compared[compared.kind == "more"].published > 0).all()
    assert (compared[compared.kind == "less"].published < 0).all()
    none = compared[compared.kind == "no difference"]
    assert (none.published.abs() < none.margin).all()


def test_what_cannot_be_run_says_so(published):
    unwritten = published[published.chapter.isin([6, 7, 8, 12])]
    assert len(unwritten) >= 5
    mentions = published.note.str.contains("Not run", na=False)
    assert published[mentions].note.str.match(r"Not run: \w.+\.$").all()


# ---------------------------------------------------------------- two runs against each other


def test_moves_are_counted_in_standard_errors():
    before = records(
        3, a=around(0.5, 0.1), b=around(0.2, 0.1), c=(1.0, NAN, NAN, 1), gone=(1, 0, 2, 9)
    )
    after = records(
        3, a=around(0.6, 0.1), b=around(0.8, 0.1), c=(2.0, NAN, NAN, 1), same=(1, 0, 2, 9)
    )
    moved = scorecard.compare(before, after)
    assert list(moved.name) == ["b", "a", "c"]
    error = 2**0.5 * 0.1 / scipy.stats.t(19).ppf(0.975)
    assert moved.errors[:2].tolist() == pytest.approx([0.6 / error, 0.1 / error])
    assert math.isnan(moved.errors[2])
    assert moved[["before", "after"]].values.tolist() == [[0.2, 0.8], [0.5, 0.6], [1.0, 2.0]]
    assert scorecard.compare(before, before).empty
    other_chapter = after.assign(chapter=4)
    assert scorecard.compare(before, other_chapter).empty


def test_verdicts_flip_where_both_ran_and_differ():
    up, down = around(0.1, 0.05), around(-0.1, 0.05)
    before = pd.DataFrame(records(3, **{"claim_P-1": up, "claim_P-2": up, "claim_P-3": up}))
    after = pd.DataFrame(records(3, **{"claim_P-1": down, "claim_P-2": up, "claim_P-4": up}))
    flips = scorecard.flipped(before, after)
    assert flips[["id", "before", "after"]].values.tolist() == [
        ["P-1", "reproduced", "contradicted"]
    ]
    assert scorecard.flipped(before, before).empty
