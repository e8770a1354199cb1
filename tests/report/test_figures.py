"""Figures: what is drawn is what the table says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb, to_rgba

from sublearn.core.store import Store
from sublearn.nets.experiment import run
from sublearn.nets.settings import compact, sweep
from sublearn.report.figures import (
    NETWORKS,
    bar_lengths,
    bars_note,
    chance_line,
    dot_intervals,
    line_intervals,
    panels,
    radial_power,
    readings,
)
from sublearn.stats import summary


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    base = compact("digits")
    rates = sweep("rate", base, lr=[1e-3, 3e-3])
    losses = sweep("loss", base, {"KL": {}, "squared error": {"loss": "mse"}})
    store = Store(tmp_path_factory.mktemp("store"))
    table = run(rates | losses, models=3, measures=["ceiling"], checkpoints=[1], store=store)
    return readings(table)


def test_readings_hold_each_network_once_per_arm_and_model(rows):
    assert rows.groupby(["arm", "network"]).size().eq(3).all()
    assert set(rows.network) == {"student", "teacher", "ceiling"}
    assert rows.level.unique().tolist() == ["0.001", "0.003", "KL", "squared error"]
    assert (rows[rows.network == "student"].epoch == 2).all()


def test_panels_draw_the_means_and_intervals_of_the_table(rows):
    figure = panels(rows, ["rate", "loss"])
    assert [ax.get_title() for ax in figure.axes] == ["rate", "loss"]
    means = summary(rows[rows.factor == "rate"], by=["network", "level"])
    heights = np.concatenate([np.atleast_1d(line.get_ydata()) for line in figure.axes[0].lines])
    for value in [*means["mean"], *means.low, *means.high]:
        assert np.isclose(heights.astype(float), value, rtol=0, atol=1e-9).any()
    plt.close(figure)


def test_long_levels_stand_one_below_the_other(rows):
    figure = panels(rows, ["rate", "loss"])
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "accuracy"]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == [
        "KL",
        "squared error",
    ]
    plt.close(figure)


def test_a_dot_plot_draws_the_means_and_intervals_of_its_table_from_top_to_bottom(rows):
    students = rows[rows.network == "student"]
    means = summary(students, by="arm")
    figure, ax = plt.subplots()
    dot_intervals(ax, means, y="arm", models=students)
    chance_line(ax, 10)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(means.arm)
    assert ax.yaxis_inverted()
    dots, _, (bars,) = ax.containers[0]
    assert np.allclose(dots.get_xdata(), means["mean"])
    assert np.allclose([bar[:, 0] for bar in bars.get_segments()], means[["low", "high"]])
    models = ax.collections[0].get_offsets()
    assert np.allclose(models[:, 0], students.accuracy)
    assert np.allclose(models[:, 1].round(), students.arm.map(list(means.arm).index))
    assert ax.lines[-1].get_xdata() == [0.1, 0.1]
    plt.close(figure)


def test_the_reference_stands_as_bands_behind_the_levels_it_has(rows):
    means = summary(rows[rows.network == "student"], by="arm")
    known = means.iloc[[2, 0]].assign(low=0.2, high=0.6)
    other = known.iloc[:1].assign(arm="of another run")
    figure, ax = plt.subplots()
    dot_intervals(ax, means, y="arm", reference=pd.concat([known, other]))
    bands = ax.patches
    heights = [band.get_y() + band.get_height() / 2 for band in bands]
    assert np.allclose(heights, [2, 0])
    assert np.allclose([[band.get_x(), band.get_width()] for band in bands], [0.2, 0.4])
    assert max(band.get_zorder() for band in bands) < ax.containers[-1][0].get_zorder()
    assert [label.get_text() for label in ax.get_yticklabels()] == list(means.arm)
    plt.close(figure)


@pytest.mark.parametrize("factor, across", [("rate", True), ("loss", False)])
def test_panels_have_bands_of_the_reference_at_their_levels_in_the_networks_colors(rows, factor, across):
    means = summary(rows[rows.factor == factor], by=["factor", "level", "network"])
    known = means.iloc[[4, 0]].assign(low=[0.2, 0.5], high=[0.6, 0.9])
    other = known.iloc[:1].assign(level="of another run")
    figure = panels(rows, [factor], reference=pd.concat([known, other, known.assign(factor="another")]))
    ax = figure.axes[0]
    assert len(ax.patches) == 2
    levels = list(rows[rows.factor == factor].level.unique())
    for band, row in zip(ax.patches, known.itertuples()):
        at, start, span = (
            (band.get_x() + band.get_width() / 2, band.get_y(), band.get_height())
            if across
            else (band.get_y() + band.get_height() / 2, band.get_x(), band.get_width())
        )
        assert np.isclose(at, levels.index(row.level))
        assert np.allclose([start, span], [row.low, row.high - row.low])
        color = to_rgb(NETWORKS[row.network])
        assert np.allclose(to_rgba(band.get_facecolor())[:3], color)
        assert band.get_alpha() < 0.3
    plt.close(figure)


def test_a_line_draws_its_table_and_the_reference_as_a_band_of_its_color():
    table = pd.DataFrame({"m": [1, 3], "mean": [0.2, 0.4], "low": [0.1, 0.3], "high": [0.35, 0.6]})
    known = pd.DataFrame({"m": [3, 1, 2], "low": [0.31, 0.11, 0.2], "high": [0.5, 0.3, 0.4]})
    figure, ax = plt.subplots()
    line_intervals(ax, table, x="m", reference=known, label="noise")
    line, _, (bars,) = ax.containers[0]
    assert np.allclose(line.get_xydata(), table[["m", "mean"]])
    assert np.allclose([bar[:, 1] for bar in bars.get_segments()], table[["low", "high"]])
    (band,) = [each for each in ax.collections if each is not bars]
    corners = band.get_paths()[0].vertices
    for row in known.itertuples():
        assert {row.low, row.high} <= set(corners[corners[:, 0] == row.m, 1])
    assert np.allclose(band.get_facecolor()[0][:3], to_rgb(line.get_color()))
    line_intervals(ax, table.rename(columns={"mean": "difference"}), x="m")
    assert len(ax.containers) == 2
    plt.close(figure)


def test_the_note_says_over_how_many():
    assert bars_note(8) == "Points are means over n = 8 models, bars are 95 % intervals."
    assert "n = 3 to 5 pairs," in bars_note(pd.Series([5.0, 3.0, 4.0]), "pairs")


def test_power_of_white_noise_is_flat_and_of_a_wave_a_line():
    white = radial_power(torch.rand(2000, 64) * 2 - 1)
    assert white.frequency.tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(white.power, 1 / 3, atol=0.03)
    wave = np.tile(np.cos(2 * np.pi * 3 * np.arange(8) / 8), (8, 1)).reshape(1, 64)
    spectrum = radial_power(wave).set_index("frequency").power
    assert spectrum[3] > 1 and spectrum.drop(3).max() < 1e-12
    assert isinstance(white, pd.DataFrame)


def test_lengths_of_bars_reach_both_ends_and_rounding_does_not_turn_them_around():
    table = pd.DataFrame({"mean": [0.5, 0.1], "low": [0.4, 0.1 + 1e-16], "high": [0.7, 0.1 - 1e-16]})
    lengths = bar_lengths(table)
    assert np.allclose(lengths, [[0.1, 0], [0.2, 0]])
    assert (lengths >= 0).all()
    assert np.allclose(bar_lengths(table.rename(columns={"mean": "difference"})), lengths)
