"""Families of inputs: what a student may be shown instead of digits, each with one strength.

A family is a function that fills a batch `(image, pixel)` of float32 in place. What its strength
means, and in which range it lies, stands in `settings.INPUTS`.
"""

from functools import cache, lru_cache
from math import ceil, isqrt, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sublearn.core.rng import rng
from sublearn.nets import data
from sublearn.nets.data import Images

TINY = 1e-7  # smaller weights become 0: subnormal numbers slow products down twentyfold
SD = 3**-0.5  # of uniform noise on [-1, 1]
SPECTRUM_IMAGES = 2000  # training images whose mean spectrum "image_spectrum" has


class NoiseContext(NamedTuple):
    """What a family may use to fill a batch."""

    generator: np.random.Generator  # the batch's own
    seed: int
    model: int
    strength: float
    dataset: str
    images: Images  # the teacher's


def scaled(images: Tensor, top: int) -> Tensor:
    """Grey levels 0..top as float32 on [-1, 1]."""
    levels = images.float()
    levels *= 2 / top
    levels -= 1
    return levels


def _normal(generator: np.random.Generator, *shape: int) -> Tensor:
    noise = generator.standard_normal(shape, "float32")
    return torch.from_numpy(noise)


def _levels(context: NoiseContext, out: Tensor, high: float) -> Tensor:
    """A uniform grey level on [-high, high) for each image of `out`: `(image, 1)`."""
    levels = context.generator.uniform(-high, high, (len(out), 1))
    return torch.from_numpy(levels).float()


def _spectrum(images: Tensor) -> Tensor:
    """Real Fourier transform of images `(image, pixel)`: `(image, row, column)`."""
    _, pixels = images.shape
    side = isqrt(pixels)
    squares = images.view(-1, side, side)
    return torch.fft.rfft2(squares)


# ---------------------------------------------------------------- independent pixels


def _uniform(context: NoiseContext, out: Tensor) -> None:
    """Independent uniform pixels on [-1, 1) times `strength`, in 65,536 equal steps.

    Sixteen random bits a pixel are seven times faster than a float from every 32; a digit has 256
    grey levels.
    """
    pixels = out.numel()
    count = ceil(pixels / 4)
    bits = context.generator.integers(2**64, size=count, dtype=np.uint64)
    steps = bits.view("int16")
    steps = torch.from_numpy(steps)
    steps = steps[:pixels]
    out.copy_(steps.view_as(out))
    out *= context.strength / 32_768


def _white(context: NoiseContext, out: Tensor) -> None:
    unit = context._replace(strength=1.0)
    _uniform(unit, out)


def _gaussian(context: NoiseContext, out: Tensor) -> None:
    noise = _normal(context.generator, *out.shape)
    noise *= context.strength
    out.copy_(noise)


def _bernoulli(context: NoiseContext, out: Tensor) -> None:
    _white(context, out)
    size = torch.tensor(context.strength)
    torch.copysign(size, out, out=out)


def _constant(context: NoiseContext, out: Tensor) -> None:
    levels = _levels(context, out, context.strength)
    out.copy_(levels)


# ---------------------------------------------------------------- images


def _random_images(context: NoiseContext, out: Tensor) -> Tensor:
    """Training images on [-1, 1], as many as `out` has, drawn with replacement."""
    images = context.images
    pixels = images.train_images
    picks = context.generator.integers(len(pixels), size=len(out))
    picks = torch.from_numpy(picks)
    picked = pixels.index_select(0, picks)
    return scaled(picked, images.top)


def _images(context: NoiseContext, out: Tensor) -> None:
    images = _random_images(context, out)
    out.copy_(images)
    _blur(out, context.strength)


def _fashion(context: NoiseContext, out: Tensor) -> None:
    fashion = data.load("fashion")
    _, pixels = out.shape
    if fashion.side**2 != pixels:
        raise ValueError(f"inputs 'fashion' have {fashion.side**2} pixels, the digits {pixels}")
    context = context._replace(images=fashion)
    _images(context, out)


def _permuted(context: NoiseContext, out: Tensor) -> None:
    """Images whose pixels are permuted, in one order for all images of a model."""
    generator = rng(context.seed, "permuted pixels", context.model)
    _, pixels = out.shape
    order = generator.permutation(pixels)
    images = _random_images(context, out)
    out.copy_(images[:, order])


def _mixture(context: NoiseContext, out: Tensor) -> None:
    _white(context, out)
    images = _random_images(context, out)
    share = context.strength
    out *= 1 - share
    out.add_(images, alpha=share)


# ---------------------------------------------------------------- smooth noise


@cache
def _kernel(side: int, blur: float) -> Tensor:
    """Gaussian weights `(side, side)` along one axis, of unit sum at the borders too."""
    places = torch.arange(side, dtype=torch.float64)
    distance = places[:, None] - places
    squares = distance.square()
    exponents = -squares / (2 * blur**2)
    weights = exponents.exp()
    weights[weights < TINY] = 0
    total = weights.sum(1, keepdim=True)
    weights /= total
    return weights.float()


def _blur(images: Tensor, blur: float) -> None:
    """Blur images `(image, pixel)` in place by a Gaussian whose sd is `blur` pixels.

    Long products of contiguous rows are ten times faster than batched ones.
    """
    if blur == 0:
        return
    _, pixels = images.shape
    side = isqrt(pixels)
    kernel = _kernel(side, blur).mT
    squares = images
    for _ in range(2):  # along rows, then along columns
        lines = squares.reshape(-1, side)
        lines = lines @ kernel
        squares = lines.view(-1, side, side).mT
    images.copy_(squares.flatten(1))


def _blurred(context: NoiseContext, out: Tensor) -> None:
    _white(context, out)
    _blur(out, context.strength)


def _shaded(context: NoiseContext, out: Tensor) -> None:
    """Blurred noise about a grey level of each image's own, as pictures differ in brightness."""
    _blurred(context, out)
    levels = _levels(context, out, 1.0)
    out += levels


# ---------------------------------------------------------------- noise of a given spectrum


@cache
def _frequencies(side: int) -> Tensor:
    """Frequencies' distance from zero, in cycles per image: `(side, side // 2 + 1)`."""
    down = torch.fft.fftfreq(side, 1 / side)
    across = torch.fft.rfftfreq(side, 1 / side)
    return torch.hypot(down[:, None], across)


def _filtered(context: NoiseContext, out: Tensor, gain: Tensor, *, phase_only: bool) -> None:
    """White noise times `gain` in the Fourier domain; `phase_only`: its amplitudes are 1."""
    side = context.images.side
    _white(context, out)
    spectrum = _spectrum(out)
    if phase_only:
        amplitudes = spectrum.abs()
        spectrum /= amplitudes.clamp_min(1e-12)
    spectrum *= gain
    noise = torch.fft.irfft2(spectrum, s=(side, side))
    out.copy_(noise.flatten(1))


def _random_phase(context: NoiseContext, out: Tensor) -> None:
    """Random phases on the expected spectrum of white noise blurred by `strength` pixels."""
    side = context.images.side
    scale = pi * context.strength
    radius = scale * _frequencies(side)
    radius /= side
    attenuation = torch.exp(-2 * radius**2)
    attenuation[attenuation < TINY] = 0
    _filtered(context, out, attenuation * SD * side, phase_only=True)


@cache
def _amplitude(dataset: str, blur: float) -> Tensor:
    """Root mean square of the Fourier amplitudes of blurred training images, each less its mean."""
    images = data.load(dataset)
    pixels = scaled(images.train_images[:SPECTRUM_IMAGES], images.top)
    _blur(pixels, blur)
    means = pixels.mean(1, keepdim=True)
    pixels -= means
    amplitudes = _spectrum(pixels).abs()
    power = amplitudes.square()
    return power.mean(0).sqrt()


def _image_spectrum(context: NoiseContext, out: Tensor) -> None:
    amplitude = _amplitude(context.dataset, context.strength)
    _filtered(context, out, amplitude, phase_only=True)


def _lowpass(context: NoiseContext, out: Tensor) -> None:
    side = context.images.side
    frequencies = _frequencies(side)
    passed = frequencies <= context.strength
    _filtered(context, out, passed.float(), phase_only=False)


# ---------------------------------------------------------------- few dimensions


@lru_cache(maxsize=64)
def _directions(seed: int, model: int, pixels: int) -> Tensor:
    """Orthonormal directions `(pixel, pixel)`; the first span the model's smaller subspaces."""
    generator = rng(seed, "subspace", model)
    matrix = _normal(generator, pixels, pixels)
    directions, _ = torch.linalg.qr(matrix)
    return directions


def _subspace(context: NoiseContext, out: Tensor) -> None:
    images, pixels = out.shape
    directions = _directions(context.seed, context.model, pixels)
    basis = directions[:, : int(context.strength)]
    _, dimension = basis.shape
    weights = _normal(context.generator, images, dimension)
    weights *= SD
    torch.matmul(weights, basis.mT, out=out)


@cache
def _ramps(side: int, cells: int) -> Tensor:
    """What a unit of each corner's slope adds to each pixel: `(slope, pixel)`.

    There are (cells + 1)^2 corners with two slopes each, one down and one across. The weights fade
    by the quintic of Perlin (2002).
    """
    centers = torch.arange(side) + 0.5
    places = centers * cells / side
    corners = torch.arange(cells + 1)
    offset = places[None] - corners[:, None]  # (corner, pixel) along one axis
    distance = offset.abs().clamp_max(1)
    polynomial = distance * (6 * distance - 15) + 10
    weight = 1 - distance**3 * polynomial
    weights = torch.einsum("ap,bq->abpq", weight, weight)
    down = weights * offset[:, None, :, None]
    across = weights * offset[None, :, None, :]
    ramps = torch.stack([down, across], dim=2)  # (corner, corner, slope, pixel, pixel)
    return ramps.flatten(0, 2).flatten(1)


def _perlin(context: NoiseContext, out: Tensor) -> None:
    """Gradient noise (Perlin, 1985) with `strength` cells along a side."""
    cells = int(context.strength)
    corners = (cells + 1) ** 2
    angles = context.generator.uniform(0, 2 * pi, (len(out), corners))
    angles = angles.astype("float32")
    down = np.sin(angles)
    across = np.cos(angles)
    slopes = np.stack([down, across], axis=-1)  # (image, corner, slope)
    slopes = torch.from_numpy(slopes)
    slopes = slopes.flatten(1)
    ramps = _ramps(context.images.side, cells)
    torch.matmul(slopes, ramps, out=out)


FAMILIES = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "bernoulli": _bernoulli,
    "constant": _constant,
    "images": _images,
    "permuted": _permuted,
    "fashion": _fashion,
    "perlin": _perlin,
    "mixture": _mixture,
    "blurred": _blurred,
    "shaded": _shaded,
    "random_phase": _random_phase,
    "image_spectrum": _image_spectrum,
    "lowpass": _lowpass,
    "subspace": _subspace,
}
