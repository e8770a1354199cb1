"""The families of inputs, each against what its name promises."""

from dataclasses import replace
from math import cos, floor, sin

import numpy as np
import pytest
import torch

from sublearn.core.rng import rng
from sublearn.nets import data
from sublearn.nets.data import Images
from sublearn.nets.inputs import sample
from sublearn.nets.noise import FAMILIES, NoiseContext
from sublearn.nets.settings import INPUTS, reference

DIGITS = replace(reference("digits"), batch_size=200, inputs_per_epoch=400)
ON_DIGITS = [name for name in INPUTS if name != "fashion"]


def draw(name, strength=None, count=400, **more):
    return sample(replace(DIGITS, inputs=name, strength=strength, **more), 0, [0], count)[0]


def frequencies(side):
    """Distance from zero of the frequencies of a real Fourier transform, in cycles per image."""
    down = np.fft.fftfreq(side, 1 / side)
    across = np.fft.rfftfreq(side, 1 / side)
    return torch.tensor(np.hypot(down[:, None], across))


def levels():
    """The training images on [-1, 1]."""
    return (data.load("digits").train_images.float() / 8 - 1).tolist()


def power(images):
    side = round(images.shape[1] ** 0.5)
    return torch.fft.rfft2(images.view(-1, side, side)).abs().square().mean(0)


def test_every_family_of_the_settings_can_be_drawn():
    assert set(FAMILIES) == set(INPUTS)


@pytest.mark.parametrize("name", ON_DIGITS)
def test_a_family_is_finite_varied_and_the_same_again(name):
    images = draw(name)
    assert torch.isfinite(images).all() and images.std() > 0
    assert torch.equal(images, draw(name))
    assert len(torch.unique(images, dim=0)) > 100
    other = sample(replace(DIGITS, inputs=name), 0, [1], 400)[0]
    assert not torch.equal(images, other)


@pytest.mark.parametrize("name", [name for name in ON_DIGITS if name != "constant"])
def test_standardized_images_have_the_mean_variance_and_norm_of_uniform_noise(name):
    images = draw(name, standardized=True)
    assert torch.allclose(images.mean(1), torch.zeros(400), atol=1e-5)
    assert torch.allclose(images.norm(dim=1), torch.full((400,), (64 / 3) ** 0.5), rtol=1e-4)


def test_white_families_have_the_spread_they_say():
    assert abs(draw("uniform", 2.0).std() - 2 / 3**0.5) < 0.02
    assert abs(draw("gaussian", 0.5).std() - 0.5) < 0.01
    assert draw("bernoulli", 0.75).unique().tolist() == [-0.75, 0.75]
    grey = draw("constant", 0.5)
    assert (grey == grey[:, :1]).all() and -0.5 <= grey.min() < -0.45 and 0.45 < grey.max() <= 0.5


def test_strength_is_not_in_the_name_of_the_noise():
    assert torch.allclose(draw("uniform", 2.0), 2 * draw("uniform", 1.0))
    blurred, lowpass = draw("blurred", 0.0), draw("lowpass", 99.0)
    assert not torch.allclose(blurred, lowpass, atol=0.1)  # each family has its own noise


def test_images_are_training_images_and_permuted_ones_their_pixels():
    known = {tuple(row) for row in levels()}
    assert all(tuple(row) in known for row in draw("images").tolist())
    shuffled = draw("permuted").sort(1).values
    pixels = {tuple(sorted(row)) for row in known}
    assert all(tuple(row) in pixels for row in shuffled.tolist())


def test_a_mixture_goes_from_noise_to_images():
    noise, half, image = (draw("mixture", alpha) for alpha in (0.0, 0.5, 1.0))
    assert torch.allclose(half, (noise + image) / 2, atol=1e-6)
    known = {tuple(row) for row in levels()}
    assert all(tuple(row) in known for row in image.tolist())
    assert abs(noise.std() - 3**-0.5) < 0.01


def test_blur_is_the_gaussian_average_of_the_same_noise():
    noise, blurred = (draw("blurred", strength).view(-1, 8, 8) for strength in (0.0, 1.5))
    places = np.arange(8)
    kernel = np.exp(-((places[:, None] - places) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum(1, keepdims=True)
    assert np.allclose(np.einsum("pa,qb,nab->npq", kernel, kernel, noise), blurred, atol=1e-5)


def test_blur_leaves_no_subnormal_numbers():
    """They would slow products down twentyfold; a spot on grey shows the weights of the average."""
    spot = torch.ones(1, 28 * 28, dtype=torch.uint8)
    spot[0, 0] = 2
    label = torch.zeros(1, dtype=torch.int64)
    images = Images("spot", spot, label, spot, label, classes=1, side=28, top=2, source="a spot")
    out = torch.empty(3, 28 * 28)
    FAMILIES["images"](NoiseContext(rng(0, "spot"), 0, 0, 0.5, "spot", images), out)
    weights = out[out != 0]
    assert out[0, 0] == weights.max() > 0.5
    assert len(weights) > 3 and weights.min() > 1e-14


def test_lowpass_keeps_low_frequencies_and_nothing_else():
    low = frequencies(8) <= 2
    spectrum, whole = power(draw("lowpass", 2.0)), power(draw("lowpass", 99.0))
    assert torch.allclose(spectrum[low], whole[low], rtol=1e-3)
    assert spectrum[~low].max() < 1e-6 * spectrum[low].mean()


def test_random_phases_have_exactly_the_spectrum_and_no_two_images_the_same_phases():
    images = draw("random_phase", 1.0)
    expected = (1 / 3) * 64 * torch.exp(-4 * (torch.pi * frequencies(8) / 8) ** 2)
    spectra = torch.fft.rfft2(images.view(-1, 8, 8)).abs().square()
    assert torch.allclose(spectra, expected.float().expand_as(spectra), rtol=1e-2, atol=1e-3)
    assert torch.corrcoef(images[:50]).fill_diagonal_(0).abs().max() < 0.9
    pictures = draw("images")
    pictures = pictures - pictures.mean(1, keepdim=True)
    ratio = power(draw("image_spectrum"))[1:4, 1:4] / power(pictures)[1:4, 1:4]
    assert ((ratio > 0.7) & (ratio < 1.4)).all()


def test_subspaces_have_their_dimension_and_are_nested():
    small, large = draw("subspace", 5), draw("subspace", 20)
    assert torch.linalg.matrix_rank(small) == 5 and torch.linalg.matrix_rank(large) == 20
    assert torch.linalg.matrix_rank(torch.cat([small, large]), rtol=1e-4) == 20
    assert abs(draw("subspace", 64).square().sum(1).mean() - 64 / 3) < 1


def test_perlin_noise_against_the_formula_one_pixel_at_a_time():
    cells, side = 2, 8
    setting = replace(DIGITS, inputs="perlin", strength=cells)
    generator = rng(0, "inputs", "perlin", 0, "sample")
    angles = generator.uniform(0, 2 * np.pi, (3, cells + 1, cells + 1))
    images = sample(setting, 0, [0], 3)[0].view(3, side, side)
    fade = lambda t: t**3 * (t * (6 * t - 15) + 10)  # noqa: E731
    for row, column in [(0, 0), (3, 5), (7, 7), (4, 3)]:
        y, x = (row + 0.5) * cells / side, (column + 0.5) * cells / side
        top, left = floor(y), floor(x)
        total = 0.0
        for b in (0, 1):
            for a in (0, 1):
                angle = angles[1, top + b, left + a]
                ramp = sin(angle) * (y - top - b) + cos(angle) * (x - left - a)
                total += fade(1 - abs(y - top - b)) * fade(1 - abs(x - left - a)) * ramp
        assert abs(images[1, row, column] - total) < 1e-5


def test_fashion_images_need_the_same_pixels():
    try:
        data.load("fashion")
    except data.DataUnavailable as error:
        pytest.skip(str(error))
    with pytest.raises(ValueError, match="inputs 'fashion' have 784 pixels, the digits 64"):
        draw("fashion")
