"""The scorecard: published claims as data, one rule for each kind of claim, and the verdicts.

A claim is a row of `book/reference/claims.csv`. It names the quantity that a chapter records (see
`report.notebook.record`), and its kind names the rule. No page has a rule of its own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.stats

from sublearn.stats import UNITS, holm, models_needed, paired

REFERENCE = Path(__file__).resolve().parents[3] / "book" / "reference"
CLAIMS = REFERENCE / "claims.csv"
RESULTS = REFERENCE / "results"
LEVEL = 0.05  # of every test
VISIBLE = 1e-6  # standard deviations: no number of models shows a smaller distance
OWN = "this book"  # source of a prediction written before the run
VERDICTS = (
    "reproduced",
    "same direction",
    "not reproduced",
    "contradicted",
    "undecided",
    "not run",
)


class Estimate(NamedTuple):
    """A recorded number: value, 95 % interval, and number of replicates (NaN: not known)."""

    value: float
    low: float
    high: float
    n: float = math.nan


class Judgement(NamedTuple):
    """A verdict, the p value of the test behind it, and the n that would decide (NaN: none)."""

    verdict: str
    p: float
    needed: float = math.nan


class Published(NamedTuple):
    """What a rule needs of a claim."""

    value: float  # published; NaN where no value was given
    low: float  # of its 95 % interval; NaN where none was given
    high: float
    bound: float  # that the claim speaks of; for "value", what no effect would give
    margin: float  # differences smaller than this do not matter


# ---------------------------------------------------------------- tests on an estimate


def standard_error(estimate: Estimate, bound: float) -> float:
    """Standard error of an estimate on the side of a bound, read off its 95 % interval."""
    side = estimate.low if bound < estimate.value else estimate.high
    return abs(estimate.value - side) / _distribution(estimate.n).ppf(0.975)


def p_above(estimate: Estimate, bound: float) -> float:
    """One-sided p value of the test that the true value lies above a bound."""
    error = standard_error(estimate, bound)
    difference = estimate.value - bound
    if error == 0:
        return 0.0 if difference > 0 else 1.0
    return float(_distribution(estimate.n).sf(difference / error))


def p_below(estimate: Estimate, bound: float) -> float:
    """One-sided p value of the test that the true value lies below a bound."""
    return p_above(_mirrored(estimate), -bound)


def p_within(estimate: Estimate, bound: float, margin: float) -> float:
    """Larger p value of the two one-sided tests that the value is within a margin of a bound."""
    not_low = p_above(estimate, bound - margin)
    not_high = p_below(estimate, bound + margin)
    return max(not_low, not_high)


def _distribution(n: float):
    """Student's t with n - 1 degrees of freedom; the normal one where n is not known."""
    return scipy.stats.t(n - 1) if n > 1 else scipy.stats.norm


def _mirrored(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low, estimate.n)


def _two_sided(p: float) -> float:
    return min(1.0, 2 * p)


def _needed(estimate: Estimate, *distances: float) -> float:
    """Models with which the largest of these distances would be seen; NaN where none would do."""
    sd = standard_error(estimate, math.inf) * math.sqrt(estimate.n)
    largest = max(map(abs, distances))
    if not (sd > 0 and largest > VISIBLE * sd):
        return math.nan
    return models_needed(largest, sd, paired_correlation=0.5)


def difference(ours: Estimate, theirs: Published) -> Estimate:
    """Ours minus the published value, from both intervals (Zou and Donner, 2008).

    A published value without an interval counts as exact.
    """
    exact = math.isnan(theirs.low) or math.isnan(theirs.high)
    low, high = (theirs.value, theirs.value) if exact else (theirs.low, theirs.high)
    value = ours.value - theirs.value
    below = math.hypot(ours.value - ours.low, high - theirs.value)
    above = math.hypot(ours.high - ours.value, theirs.value - low)
    return Estimate(value, value - below, value + above, ours.n)


# ---------------------------------------------------------------- the rules


def judge_more(ours: Estimate, claim: Published) -> Judgement:
    """The value lies above the bound.

    Reproduced above it, contradicted below it (two-sided test); not reproduced where the value is
    within the margin of the bound (two one-sided tests): an effect too small to matter.
    """
    above = _two_sided(p_above(ours, claim.bound))
    below = _two_sided(p_below(ours, claim.bound))
    if above < LEVEL:
        return Judgement("reproduced", above)
    if below < LEVEL:
        return Judgement("contradicted", below)
    within = p_within(ours, claim.bound, claim.margin)
    if within < LEVEL:
        return Judgement("not reproduced", within)
    away = ours.value - claim.bound
    needed = _needed(ours, away, claim.margin - abs(away))
    return Judgement("undecided", min(above, below), needed)


def judge_less(ours: Estimate, claim: Published) -> Judgement:
    """The value lies below the bound: `judge_more` in the mirror."""
    return judge_more(_mirrored(ours), claim._replace(bound=-claim.bound))


def judge_at_least(ours: Estimate, claim: Published) -> Judgement:
    """The value reaches a level; one that misses it by less than the margin counts as missing it.

    Reproduced where it lies above the level, contradicted where it lies below.
    """
    return judge_more(ours, claim._replace(margin=0.0))


def judge_at_most(ours: Estimate, claim: Published) -> Judgement:
    """The value stays below a level: `judge_at_least` in the mirror."""
    return judge_less(ours, claim._replace(margin=0.0))


def judge_same(ours: Estimate, claim: Published) -> Judgement:
    """The value is the bound, to within the margin (two one-sided tests).

    Contradicted where it lies wholly outside; an interval across the margin's edge is undecided,
    even where it excludes the bound.
    """
    within = p_within(ours, claim.bound, claim.margin)
    if within < LEVEL:
        return Judgement("reproduced", within)
    above = p_above(ours, claim.bound + claim.margin)
    below = p_below(ours, claim.bound - claim.margin)
    outside = _two_sided(min(above, below))
    if outside < LEVEL:
        return Judgement("contradicted", outside)
    to_edge = claim.margin - abs(ours.value - claim.bound)
    return Judgement("undecided", min(within, outside), _needed(ours, to_edge))


def judge_value(ours: Estimate, claim: Published) -> Judgement:
    """The value is the published one, to within the margin.

    Where it differs, it may still lie on the published side of the bound: the same direction.
    """
    gap = difference(ours, claim)
    judged = judge_same(gap, claim._replace(bound=0.0))
    if judged.verdict == "reproduced":
        return judged
    differs = _two_sided(min(p_above(gap, 0), p_below(gap, 0)))
    if differs >= LEVEL:
        needed = _needed(gap, gap.value, claim.margin - abs(gap.value))
        return Judgement("undecided", min(judged.p, differs), needed)
    if math.isnan(claim.bound):
        return Judgement("not reproduced", differs)
    judge = judge_more if claim.value > claim.bound else judge_less
    side = judge(ours, claim)
    words = {"reproduced": "same direction", "contradicted": "contradicted"}
    if side.verdict not in words:
        return Judgement("not reproduced", differs)
    return Judgement(words[side.verdict], max(differs, side.p))


def judge_correlation(ours: Estimate, claim: Published) -> Judgement:
    """The correlation has the published sign; the same direction where its size differs.

    A published 0 means no correlation beyond the margin.
    """
    if claim.value == 0:
        return judge_same(ours, claim._replace(bound=0.0))
    judge = judge_more if claim.value > 0 else judge_less
    judged = judge(ours, claim._replace(bound=0.0))
    gap = difference(ours, claim)
    apart = _two_sided(min(p_above(gap, claim.margin), p_below(gap, -claim.margin)))
    if judged.verdict == "reproduced" and apart < LEVEL:
        return judged._replace(verdict="same direction")
    return judged


def judge_all(parts: Sequence[Estimate], claim: Published) -> Judgement:
    """Every part lies above the bound: an order (the first minus each other) or a shape.

    All must (an intersection-union test, without correction). One that lies below contradicts,
    with Bonferroni's correction for having looked at so many.
    """
    above = [_two_sided(p_above(part, claim.bound)) for part in parts]
    below = [_two_sided(p_below(part, claim.bound)) for part in parts]
    weakest = max(above)
    if weakest < LEVEL:
        return Judgement("reproduced", weakest)
    against = min(1.0, len(parts) * min(below))
    if against < LEVEL:
        return Judgement("contradicted", against)
    part = parts[above.index(weakest)]
    needed = _needed(part, part.value - claim.bound)
    return Judgement("undecided", min(weakest, against), needed)


RULES: dict[str, Callable[[Estimate, Published], Judgement]] = {
    "more": judge_more,
    "less": judge_less,
    "at least": judge_at_least,
    "at most": judge_at_most,
    "no difference": judge_same,
    "value": judge_value,
    "correlation": judge_correlation,
}
RULES_OF_SEVERAL = {"order": judge_all, "shape": judge_all}
KINDS = (*RULES, *RULES_OF_SEVERAL)


def judge(kind: str, estimates: Sequence[Estimate], claim: Published) -> Judgement:
    """Verdict on one claim by the rule of its kind."""
    if kind in RULES_OF_SEVERAL:
        return RULES_OF_SEVERAL[kind](estimates, claim)
    (estimate,) = estimates
    return RULES[kind](estimate, claim)


# ---------------------------------------------------------------- claims and records


def read_claims(path: Path = CLAIMS) -> pd.DataFrame:
    """All claims, one a row: see the columns of the file."""
    return pd.read_csv(path, dtype={"quantity": str, "note": str}, keep_default_na=True)


def read_records(folder: Path) -> pd.DataFrame:
    """Recorded numbers of all chapters in a folder of results, with their chapter."""
    tables = []
    for path in sorted(folder.glob("[0-9][0-9]*.csv")):
        table = pd.read_csv(path)
        table.insert(0, "chapter", int(path.name[:2]))
        tables.append(table)
    if not tables:
        return pd.DataFrame(columns=["chapter", "name", "value", "low", "high", "n"])
    return pd.concat(tables, ignore_index=True)


def contrasts(table: pd.DataFrame, chapter: int) -> pd.DataFrame:
    """Paired differences of the arms that a chapter's claims compare, one a claim.

    table: one row per arm and model. A claim whose arms are not both there is left out.
    Columns: id, quantity, and those of `stats.paired`.
    """
    models = table.drop_duplicates(["arm", *UNITS])
    present = set(models.arm)
    rows = []
    for claim in read_claims().query("chapter == @chapter").itertuples():
        if {claim.baseline, claim.arm} <= present:
            both = models[models.arm.isin([claim.baseline, claim.arm])]
            ours = paired(both, over="arm", against=claim.baseline).iloc[0]
            rows.append({"id": claim.id, "quantity": claim.quantity} | ours.to_dict())
    return pd.DataFrame(rows)


def scorecard(records: pd.DataFrame, claims: pd.DataFrame | None = None) -> pd.DataFrame:
    """The claims with what a run says of each.

    records: from `read_records`, of one profile. Added columns: value, low, high and n of ours (of
    the weakest part, where a claim has several); verdict; p; corrected, the verdict after Holm's
    correction over the claims of its chapter; needed, the models that would decide.
    """
    claims = read_claims() if claims is None else claims
    known = _estimates(records)
    rows = []
    for claim in claims.itertuples():
        names = str(claim.quantity).split(";")
        estimates = [known.get((claim.chapter, name)) for name in names]
        rows.append(_judged(claim, estimates))
    table = pd.concat([claims, pd.DataFrame(rows, index=claims.index)], axis=1)
    table["corrected"] = table.verdict
    for _, chapter in table[table.p.notna()].groupby("chapter"):
        adjusted = holm(chapter.p)
        lost = chapter.index[adjusted >= LEVEL]
        table.loc[lost, "corrected"] = "undecided"
    return table


def _estimates(records: pd.DataFrame) -> Mapping[tuple[int, str], Estimate]:
    """Estimates by chapter and name, of those records that have an interval."""
    known = {}
    if records.empty:
        return known
    for row in records.dropna(subset=["low", "high"]).itertuples():
        known[row.chapter, row.name] = Estimate(row.value, row.low, row.high, row.n)
    return known


def _judged(claim, estimates: Sequence[Estimate | None]) -> dict:
    """What is added to the row of one claim."""
    missing = None in estimates
    if missing:
        return Estimate(*[math.nan] * 4)._asdict() | Judgement("not run", math.nan)._asdict()
    published = Published(
        claim.published, claim.published_low, claim.published_high, claim.bound, claim.margin
    )
    judgement = judge(claim.kind, estimates, published)
    weakest = min(estimates, key=lambda estimate: estimate.value)
    return weakest._asdict() | judgement._asdict()


# ---------------------------------------------------------------- two runs against each other


def compare(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Recorded numbers that both runs have and that differ, the largest move first.

    Columns: chapter, name, before, after, and errors: the move in standard errors of the two (NaN
    without intervals).
    """
    both = before.merge(after, on=["chapter", "name"], suffixes=("_before", "_after"))
    moved = both[both.value_before != both.value_after]
    rows = []
    for row in moved.to_dict("records"):
        move = row["value_after"] - row["value_before"]
        errors = []
        for which in ("before", "after"):
            numbers = [row[f"{column}_{which}"] for column in ("value", "low", "high", "n")]
            errors.append(standard_error(Estimate(*numbers), math.inf))
        error = math.hypot(*errors)
        entry = {"chapter": row["chapter"], "name": row["name"]}
        entry |= {"before": row["value_before"], "after": row["value_after"]}
        entry["errors"] = move / error if error > 0 else math.nan
        rows.append(entry)
    table = pd.DataFrame(rows, columns=["chapter", "name", "before", "after", "errors"])
    order = np.argsort(-table.errors.abs().fillna(-1).to_numpy(), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def flipped(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Claims on which two runs give different verdicts: id, claim, before and after.

    A claim that only one of them ran is no flip.
    """
    verdicts = scorecard(before)[["id", "claim", "verdict"]]
    both = verdicts.merge(scorecard(after)[["id", "verdict"]], on="id", suffixes=("", "_after"))
    both = both.rename(columns={"verdict": "before", "verdict_after": "after"})
    ran = (both.before != "not run") & (both.after != "not run")
    return both[ran & (both.before != both.after)].reset_index(drop=True)
