"""Means with intervals, paired differences, families of tests, and power.

A replicate is a model, named by (seed, model). Wrong input raises ValueError: fewer than two
values, values that are not finite, an empty table, an unknown column, a model that a group holds
twice or that has no partner.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import partial
from math import inf, isfinite

import numpy as np
import pandas as pd
import scipy.special
import scipy.stats
from scipy.optimize import brentq
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower, TTestPower

UNITS = ("seed", "model")
ALPHA = 0.05
SHARES = ("accuracy", "ceiling", "share", "AUC")  # values between 0 and 1, as their intervals are


def interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """Student's two-sided t interval (low, high) of a mean; for seaborn, `errorbar=interval`."""
    values = _finite(values)
    mean = values.mean()
    freedom = len(values) - 1
    probability = (1 + level) / 2
    quantile = scipy.stats.t.ppf(probability, freedom)
    error = scipy.stats.sem(values)
    half = quantile * error
    return float(mean - half), float(mean + half)


def share_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """Interval (low, high) of the mean of values between 0 and 1, which stays between them.

    Student's t interval on the scale of log-odds, with the error of the mean carried over by the
    delta method. Where every value is 0, the mean is at most what would give n zeros in one of 40
    draws (Clopper and Pearson's bound, which holds for any law between 0 and 1); 1 alike.
    """
    values = _finite(values)
    mean = values.mean()
    odds_slope = mean * (1 - mean)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"A share lies between 0 and 1, got {values.min()} to {values.max()}.")
    if odds_slope == 0:
        farthest = 1 - ((1 - level) / 2) ** (1 / len(values))
        return (1 - farthest, 1.0) if mean else (0.0, farthest)
    quantile = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1)
    half = quantile * scipy.stats.sem(values) / odds_slope
    center = scipy.special.logit(mean)
    return float(scipy.special.expit(center - half)), float(scipy.special.expit(center + half))


def interval_of(name: str, values: Iterable[float]) -> tuple[float, float]:
    """`share_interval` of what is named as one of SHARES, else `interval`."""
    if name.startswith(SHARES):
        return share_interval(values)
    return interval(values)


def sd_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """Interval (low, high) of a standard deviation, for normal values (chi square)."""
    values = _finite(values)
    freedom = len(values) - 1
    squares = freedom * values.var(ddof=1)
    tail = (1 - level) / 2
    largest, smallest = scipy.stats.chi2.ppf([1 - tail, tail], freedom)
    return float(np.sqrt(squares / largest)), float(np.sqrt(squares / smallest))


def peak(
    table: pd.DataFrame, over: str, *, value: str = "accuracy", units: Sequence[str] = UNITS
) -> pd.DataFrame:
    """Whether a curve over the levels of `over`, in their order, has its peak inside the range.

    Two rows, part "rise" and "fall": difference of the peak's level to the first and to the last
    one, with low, high, p and n. Each half of the models takes the level that is best in the other
    half, so that choosing it does not favor it.
    """
    curves = table.pivot(index=list(units), columns=over, values=value)
    curves = curves[list(table[over].unique())].to_numpy()
    half = np.arange(len(curves)) % 2 == 0
    if len(curves) < 4:
        raise ValueError(f"peak needs 4 or more models, got {len(curves)}: run more.")
    best = np.where(half, curves[~half].mean(0).argmax(), curves[half].mean(0).argmax())
    highest = curves[np.arange(len(curves)), best]
    rows = []
    for part, end in (("rise", 0), ("fall", -1)):
        rows.append({"part": part} | _t_test(highest - curves[:, end]))
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, by: str | Sequence[str], value: str = "accuracy") -> pd.DataFrame:
    """Mean, low, high (95 %, see `interval_of`), sd and n of each group of `by`, one row per group.

    Groups stand in order of appearance; their columns come first.
    """
    units = [unit for unit in UNITS if unit in table]
    rows = []
    for names, group in _groups(table, by, [value]):
        values = _by_unit(group, value, units, names)
        values = _finite(values, names)
        low, high = interval_of(value, values)
        row = {"mean": values.mean(), "low": low, "high": high}
        row["sd"] = values.std(ddof=1)
        row["n"] = len(values)
        rows.append(names | row)
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
    """Compare each level of `over` with the level `against`, model by model, in each group of `by`.

    `units` are the columns that name a model. Columns of the result: those of `by`, `over`, then
    difference (level minus `against`), low, high, p and n. The p value is that of the paired t
    test; it is 1 where no model differs.
    """
    rows = []
    for names, group in _groups(table, by, [over, value, *units]):
        arms = {key[over]: arm for key, arm in _groups(group, over)}
        if against not in arms:
            place = f"{over} = {against!r} is not there{_where(names)}"
            raise ValueError(f"{place}: the table has {list(arms)}.")
        baseline = _by_unit(arms.pop(against), value, units, names | {over: against})
        for level, arm in arms.items():
            arm_names = names | {over: level}
            values = _by_unit(arm, value, units, arm_names)
            unpaired = values.index.symmetric_difference(baseline.index)
            if len(unpaired):
                place = f"No partner{_where(_first(unpaired) | names)}"
                levels = f"{over} = {level} and {against}"
                raise ValueError(f"{place}: it has one of {levels} only; run both.")
            differences = _finite(values - baseline[values.index], arm_names)
            row = _t_test(differences)
            rows.append(arm_names | row)
    return pd.DataFrame(rows)


def holm(p: Iterable[float]) -> np.ndarray:
    """P values adjusted by Holm's step-down method, in their order, for one family of tests."""
    p = np.array(list(p), dtype=float)
    valid = (p >= 0) & (p <= 1)
    if not len(p) or not valid.all():
        raise ValueError(f"holm needs one or more p values between 0 and 1, got {p.tolist()}.")
    return multipletests(p, method="holm")[1]


def chance_corrected(accuracy, classes):
    """Accuracy above chance, (accuracy - 1/K) / (1 - 1/K) for K equally frequent classes.

    0 is guessing, 1 is all right. Numbers, arrays and columns of a table will do.
    """
    if np.any(np.asarray(classes) < 2):
        raise ValueError(f"chance_corrected needs 2 or more classes, got {classes}.")
    chance = 1 / classes
    above = accuracy - chance
    return above / (1 - chance)


def models_needed(
    difference: float, sd: float, *, power: float = 0.8, paired_correlation: float = 0.0
) -> int:
    """Models per arm with which a two-sided t test at 5 % sees a difference with this power.

    `sd` is the standard deviation between the models of one arm. A correlation of 0 means
    independent arms; any other is that between the same models' values in the two arms, which are
    then tested in pairs.
    """
    if difference == 0 or not isfinite(difference):
        raise ValueError(f"models_needed needs a difference other than 0, got {difference}.")
    size = abs(difference)
    counts = range(2, 10**15)
    index = bisect_left(counts, power, key=lambda n: _power(size, n, sd, paired_correlation))
    return counts[index]


def detectable(n: int, sd: float, *, power: float = 0.8, paired_correlation: float = 0.0) -> float:
    """Smallest difference that `n` models per arm show with this power; see `models_needed`."""
    if n < 2:
        raise ValueError(f"detectable needs 2 or more models per arm, got {n}.")
    return brentq(lambda size: _power(size, n, sd, paired_correlation) - power, 0, 1000 * sd)


def _groups(
    table: pd.DataFrame, by: str | Sequence[str], values: Sequence[str] = ()
) -> list[tuple[dict, pd.DataFrame]]:
    """Names (column -> level) and rows of each group, in order of appearance."""
    if isinstance(by, str):
        by = [by]
    by = list(by)
    for column in [*by, *values]:
        if column not in table:
            columns = ", ".join(map(str, table))
            raise ValueError(f"The table has no column {column!r}: it has {columns}.")
    if table.empty:
        raise ValueError(
            "The table is empty: nothing was run, or a filter before this left no row."
        )
    if not by:
        return [({}, table)]
    groups = table.groupby(by, sort=False, dropna=False, observed=True)
    return [(dict(zip(by, levels)), group) for levels, group in groups]


def _by_unit(group: pd.DataFrame, value: str, units: Sequence[str], names: dict) -> pd.Series:
    """Values by unit; each may occur once, because repeats would make an interval too short."""
    if not units:
        return group[value]
    units = list(units)
    values = group.set_index(units)[value]
    index = values.index
    repeated = index[index.duplicated()]
    if len(repeated):
        place = f"There are several rows{_where(_first(repeated) | names)}"
        raise ValueError(f"{place}: name more columns in `by`, or filter the table.")
    return values


def _first(units: pd.Index) -> dict:
    table = units.to_frame()
    return table.iloc[0].to_dict()


def _where(names: dict) -> str:
    if not names:
        return ""
    levels = [f"{name} = {level}" for name, level in names.items()]
    return f" where {', '.join(levels)}"


def _finite(values: Iterable[float], names: dict | None = None) -> np.ndarray:
    values = np.asarray(list(values), dtype=float)
    n = len(values)
    where = _where(names or {})
    if n < 2:
        raise ValueError(f"An interval needs 2 or more values, got {n}{where}: run more models.")
    finite = np.isfinite(values)
    lost = (~finite).sum()
    if lost:
        raise ValueError(f"{lost} of {n} values are not finite{where}.")
    return values


def _t_test(differences: np.ndarray) -> dict:
    """Mean of paired differences, its interval, and the p value of the test that it is 0."""
    n = len(differences)
    low, high = interval(differences)
    mean = differences.mean()
    error = scipy.stats.sem(differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = abs(mean) / error
    t = np.nan_to_num(t, posinf=inf)  # 0 / 0 where no model differs
    tail = scipy.stats.t.sf(t, n - 1)
    row = {"difference": mean, "low": low, "high": high}
    row["p"] = 2 * tail
    row["n"] = n
    return row


def _power(difference: float, n: int, sd: float, correlation: float) -> float:
    """Power of the two-sided t test at 5 %.

    The sum of its tails, because scipy gives nan for some that are 1 or 0, and the nan of one tail
    would hide the other.
    """
    if not (0 < sd < inf and -1 < correlation < 1):
        design = f"{sd} and {correlation}"
        raise ValueError(f"Power needs sd > 0 and a correlation inside (-1, 1), got {design}.")
    test = TTestIndPower()
    if correlation:
        test = TTestPower()
        sd *= (2 - 2 * correlation) ** 0.5  # of the differences
    effect = difference / sd
    tail = partial(test.power, effect, n, ALPHA / 2)
    upper = tail(alternative="larger")
    lower = tail(alternative="smaller")
    upper = np.nan_to_num(upper, nan=1.0)
    lower = np.nan_to_num(lower, nan=0.0)
    return float(upper + lower)
