"""Means with intervals, paired differences, families of tests, power, and verdicts on published numbers.

A replicate is a model, named by (seed, model). Wrong input raises ValueError: fewer than two values, values that
are not finite, an empty table, an unknown column, a model that a group holds twice or that has no partner.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from math import hypot, inf, isfinite
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.stats
from scipy.optimize import brentq
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

PUBLISHED = Path(__file__).resolve().parents[2] / "book" / "reference" / "published.csv"
CLAIMS = PUBLISHED.with_name("claims.csv")
UNITS = ("seed", "model")


def interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """Give Student's two-sided t interval (low, high) of a mean; serves seaborn as `errorbar=interval`."""
    values = _finite(list(values))
    half = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * scipy.stats.sem(values)
    return float(values.mean() - half), float(values.mean() + half)


def summary(table: pd.DataFrame, by: str | Sequence[str], value: str = "accuracy") -> pd.DataFrame:
    """Give one row per group, in order of appearance: the columns of `by`, then mean, low, high, sd and n."""
    rows = []
    for names, group in _groups(table, by, [value]):
        values = _finite(_by_unit(group, value, [unit for unit in UNITS if unit in table], names), names)
        low, high = interval(values)
        found = {"mean": values.mean(), "low": low, "high": high, "sd": values.std(ddof=1), "n": len(values)}
        rows.append(names | found)
    return pd.DataFrame(rows)


def paired(
    table: pd.DataFrame,
    over: str,
    *,
    against: object,
    by: str | Sequence[str] = (),
    value: str = "accuracy",
    units: Sequence[str] = UNITS,
) -> pd.DataFrame:
    """Compare each level of `over` with the level `against`, model by model, within each group of `by`.

    Columns: those of `by`, `over`, then difference (level minus `against`), low, high, p (paired t test) and n.
    """
    rows = []
    for names, group in _groups(table, by, [over, value, *units]):
        arms = {key[over]: arm for key, arm in _groups(group, over, [])}
        if against not in arms:
            raise ValueError(f"{over} = {against!r} is not there{_where(names)}: the table has {list(arms)}.")
        base = _by_unit(arms.pop(against), value, units, names | {over: against})
        for level, arm in arms.items():
            here = names | {over: level}
            values = _by_unit(arm, value, units, here)
            single = values.index.symmetric_difference(base.index)
            if len(single):
                unit = _where(single[:1].to_frame().iloc[0].to_dict() | names)
                raise ValueError(f"No partner{unit}: it has one of {over} = {level} and {against} only; run both.")
            rows.append(here | _difference(_finite(values - base[values.index], here)))
    return pd.DataFrame(rows)


def bootstrap(
    values: Iterable[float], statistic: Callable = np.median, *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Give the BCa bootstrap interval (low, high) of a statistic of skewed values.

    For medians, ratios and rank correlations of 25 or more values; with few it covers the truth too rarely.
    """
    values = _finite(list(values))
    if np.ptp(values) == 0:  # nothing to resample
        return float(statistic(values)), float(statistic(values))
    rng = np.random.default_rng(seed)
    found = scipy.stats.bootstrap((values,), statistic, confidence_level=level, method="BCa", rng=rng)
    return tuple(map(float, found.confidence_interval))


def holm(p: Iterable[float]) -> np.ndarray:
    """Give p values adjusted by Holm's step-down method, in their order, for one family of tests."""
    p = np.array(list(p), dtype=float)
    if not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"holm needs one or more p values between 0 and 1, got {p.tolist()}.")
    return multipletests(p, method="holm")[1]


def chance_corrected(accuracy, classes):
    """Give (accuracy - 1/K) / (1 - 1/K) for K equally frequent classes: 0 is guessing, 1 is all right."""
    if np.any(np.asarray(classes) < 2):
        raise ValueError(f"chance_corrected needs 2 or more classes, got {classes}.")
    return (accuracy - 1 / classes) / (1 - 1 / classes)


def models_needed(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05, paired_correlation: float = 0.0
) -> int:
    """Give the models per arm with which a two-sided t test sees a difference with this power.

    `sd` is the standard deviation between the models of one arm. A correlation of 0 means independent arms; any
    other is that between the same models' values in the two arms, which are then tested in pairs.
    """
    if difference == 0 or not isfinite(difference):
        raise ValueError(f"models_needed needs a difference other than 0, got {difference}.")
    reached = _power_of(sd, alpha, paired_correlation)
    return 2 + bisect_left(range(2, 10**15), power, key=lambda n: reached(abs(difference), n))


def detectable(n: int, sd: float, *, power: float = 0.8, alpha: float = 0.05, paired_correlation: float = 0.0) -> float:
    """Give the smallest difference that `n` models per arm show with this power; see `models_needed`."""
    if n < 2:
        raise ValueError(f"detectable needs 2 or more models per arm, got {n}.")
    reached = _power_of(sd, alpha, paired_correlation)
    return brentq(lambda difference: reached(difference, n) - power, 0, 1000 * sd)


def verdict(
    value: float,
    low: float,
    high: float,
    *,
    published: float,
    published_low: float | None = None,
    published_high: float | None = None,
    margin: float = 0.05,
) -> str:
    """Compare with a published value: "agrees", "differs (higher)", "differs (lower)" or "undecided".

    Decided on the interval of ours minus theirs, made from both intervals (Zou and Donner 2008, Statistics in
    Medicine 27:1693): it differs when that excludes 0, agrees when it holds 0 and stays within the margin, and is
    undecided when it is wider. A published value without an interval counts as exact, and the verdict says so.
    """
    exact = bool(pd.isna(published_low) or pd.isna(published_high))
    below, above = (0, 0) if exact else (published - published_low, published_high - published)
    lowest = value - published - hypot(value - low, above)
    highest = value - published + hypot(high - value, below)
    if not (isfinite(lowest) and isfinite(highest)):
        raise ValueError(f"verdict needs finite numbers, got {value} [{low}, {high}] against {published}.")
    remarks = ["higher"] * bool(lowest > 0) + ["lower"] * bool(highest < 0)
    word = "differs" if remarks else "agrees" if max(-lowest, highest) <= margin else "undecided"
    remarks += ["published value has no interval"] * exact
    return f"{word} ({'; '.join(remarks)})" if remarks else word


def holds(low: float, high: float, *, above: float | None = None, below: float | None = None) -> str:
    """Say whether a published claim such as "above 0.5" "holds", "fails" or is "undecided" by our interval."""
    if (above is None) == (below is None) or not low <= high:
        raise ValueError(f"holds needs low <= high and one bound, got [{low}, {high}], {above=}, {below=}.")
    if above is None:
        low, high, above = -high, -low, -below
    return "holds" if low > above else "fails" if high <= above else "undecided"


def claims(chapter: int) -> pd.DataFrame:
    """Give the published changes that a chapter tests: id, claim, source, change and the two arms that we compare."""
    table = pd.read_csv(CLAIMS)
    return table[table.chapter == chapter].drop(columns="chapter").reset_index(drop=True)


def judged(table: pd.DataFrame, found: pd.DataFrame, value: str = "accuracy") -> pd.DataFrame:
    """Put our paired change (difference, low, high, n) beside each published one, with a verdict on its direction.

    `table` holds one row per arm and model, `found` comes from `claims`. The verdict is that of `holds` for a change
    of the published sign; where the published change is 0, whether ours stays within 0.05 of it.
    """
    rows = []
    for claim in found.itertuples():
        both = table[table.arm.isin([claim.ours_from, claim.ours_to])].drop_duplicates(["arm", *UNITS])
        ours = paired(both, over="arm", against=claim.ours_from, value=value).iloc[0]
        bound = {"above": 0} if claim.change > 0 else {"below": 0}
        word = holds(ours.low, ours.high, **bound)
        if claim.change == 0:
            near = verdict(ours.difference, ours.low, ours.high, published=0).split(" ")[0]
            word = {"agrees": "holds", "differs": "fails"}.get(near, near)
        rows.append(ours[["difference", "low", "high", "n"]].to_dict() | {"verdict": word})
    return pd.concat([found.drop(columns=["ours_from", "ours_to"]), pd.DataFrame(rows)], axis=1)


def published(quantity: str) -> pd.DataFrame:
    """Give what others published on a quantity: id, quantity, source, value, low, high, n and note."""
    table = pd.read_csv(PUBLISHED)
    if quantity not in set(table.quantity):
        raise ValueError(f"Nothing is published on {quantity!r}: use one of {sorted(set(table.quantity))}.")
    return table[table.quantity == quantity].reset_index(drop=True)


def _groups(table: pd.DataFrame, by: str | Sequence[str], more: list[str]) -> list[tuple[dict, pd.DataFrame]]:
    by = [by] if isinstance(by, str) else list(by)
    unknown = [column for column in [*by, *more] if column not in table]
    if unknown:
        raise ValueError(f"The table has no column {unknown[0]!r}: it has {', '.join(map(str, table))}.")
    if table.empty:
        raise ValueError("The table is empty: nothing was run, or a filter before this left no row.")
    groups = table.groupby(by, sort=False, dropna=False, observed=True) if by else [((), table)]
    return [(dict(zip(by, key)), group) for key, group in groups]


def _where(names: dict) -> str:
    return f" where {', '.join(f'{name} = {level}' for name, level in names.items())}" if names else ""


def _finite(values: Sequence[float], names: dict | None = None) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"An interval needs 2 or more values, got {len(values)}{_where(names)}: run more models.")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} of {len(values)} values are not finite{_where(names)}.")
    return values


def _by_unit(arm: pd.DataFrame, value: str, units: Sequence[str], names: dict) -> pd.Series:
    """Index the values by unit; each may occur once, because repeats would make an interval too short."""
    twice = arm[arm.duplicated(list(units))] if units else arm[:0]
    if len(twice):
        unit = _where(twice.iloc[0][list(units)].to_dict() | names)
        raise ValueError(f"There are several rows{unit}: name more columns in `by`, or filter the table.")
    return arm.set_index(list(units))[value] if units else arm[value]


def _difference(differences: np.ndarray) -> dict:
    low, high = interval(differences)
    mean, error, n = differences.mean(), scipy.stats.sem(differences), len(differences)
    t = abs(mean) / error if error else inf if mean else 0.0
    return {"difference": mean, "low": low, "high": high, "p": 2 * scipy.stats.t.sf(t, n - 1), "n": n}


def _power_of(sd: float, alpha: float, correlation: float) -> Callable[[float, int], float]:
    if not (0 < sd < inf and -1 < correlation < 1):
        raise ValueError(f"Power needs sd > 0 and a correlation inside (-1, 1), got {sd} and {correlation}.")
    test = TTestPower() if correlation else TTestIndPower()
    scale = sd * (2 - 2 * correlation) ** 0.5 if correlation else sd

    def reached(difference: float, n: int) -> float:
        tails = (test.power(difference / scale, n, alpha / 2, alternative=side) for side in ("larger", "smaller"))
        upper, lower = map(float, tails)
        return np.nan_to_num(upper, nan=1.0) + np.nan_to_num(lower)  # scipy gives nan for some that are 1 or 0

    return reached
