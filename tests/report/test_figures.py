"""Figures: what is drawn is what the table says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from sublearn.nets.experiment import run
from sublearn.nets.settings import compact, sweep
from sublearn.report.figures import panels, radial_power, readings
from sublearn.stats import summary


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    from sublearn.nets import results

    patch = pytest.MonkeyPatch()
    patch.setattr(results, "CACHE", tmp_path_factory.mktemp("cache"))
    base = compact("digits")
    arms = sweep("rate", base, lr=[1e-3, 3e-3]) | sweep("loss", base, {"KL": {}, "squared error": {"loss": "mse"}})
    yield readings(run(arms, models=3, measures=["ceiling"], checkpoints=[1]))
    patch.undo()


def test_readings_hold_each_network_once_per_arm_and_model(rows):
    assert rows.groupby(["arm", "network"]).size().eq(3).all()
    assert set(rows.network) == {"student", "teacher", "ceiling"}
    assert rows.level.unique().tolist() == ["0.001", "0.003", "KL", "squared error"]
    assert (rows[rows.network == "student"].epoch == 2).all()


def test_panels_draw_the_means_and_intervals_of_the_table(rows):
    figure = panels(rows, ["rate", "loss"])
    assert [ax.get_title() for ax in figure.axes] == ["rate", "loss"]
    means = summary(rows[rows.factor == "rate"], by=["network", "level"])
    drawn = {round(float(y), 9) for line in figure.axes[0].lines for y in np.atleast_1d(line.get_ydata())}
    assert {round(value, 9) for value in means["mean"]} <= drawn
    assert {round(value, 9) for value in [*means.low, *means.high]} <= drawn
    plt.close(figure)


def test_power_of_white_noise_is_flat_and_of_a_wave_a_line():
    white = radial_power(torch.rand(2000, 64) * 2 - 1)
    assert white.frequency.tolist() == [0, 1, 2, 3, 4]
    assert np.allclose(white.power, 1 / 3, atol=0.03)
    wave = np.tile(np.cos(2 * np.pi * 3 * np.arange(8) / 8), (8, 1)).reshape(1, 64)
    spectrum = radial_power(wave).set_index("frequency").power
    assert spectrum[3] > 1 and spectrum.drop(3).max() < 1e-12
    assert isinstance(white, pd.DataFrame)
