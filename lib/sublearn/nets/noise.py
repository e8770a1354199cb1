"""Families of inputs: what a student may be shown instead of digits, each with one parameter, its strength."""

from collections.abc import Callable
from functools import cache, lru_cache
from math import pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sublearn.core.rng import rng
from sublearn.nets import data
from sublearn.nets.data import Images

TINY = 1e-7  # weights below are nothing in float32; left in, they slow products twentyfold (subnormal numbers)
SD = 3**-0.5  # of uniform noise on [-1, 1]
load = cache(data.load)  # each call would check the files' digests again


def scaled(images: Tensor, top: int) -> Tensor:
    """Grey levels 0..top as float32 on [-1, 1]."""
    return images.to(torch.float32).mul_(2 / top).sub_(1)


class Draw(NamedTuple):
    """What a family may use: the batch's random generator, whose it is, its strength and the teacher's images."""

    generator: np.random.Generator
    seed: int
    model: int
    strength: float
    dataset: str
    images: Images


def uniform(draw: Draw, out: Tensor) -> None:
    """Independent uniform pixels on [-1, 1) times `strength`, in 65,536 equal steps.

    Sixteen random bits a pixel make this seven times faster than a float from every 32; a digit has 256 grey levels.
    """
    words = draw.generator.integers(0, 2**64 - 1, -(-out.numel() // 4), dtype=np.uint64, endpoint=True)
    steps = torch.from_numpy(words.view(np.int16)[: out.numel()]).view(out.shape)
    out.copy_(steps).mul_(2.0**-15 * draw.strength)


def _white(draw: Draw, out: Tensor) -> None:
    uniform(draw._replace(strength=1.0), out)


def _gaussian(draw: Draw, out: Tensor) -> None:
    out.copy_(torch.from_numpy(draw.generator.standard_normal(out.shape, dtype=np.float32))).mul_(draw.strength)


def _bernoulli(draw: Draw, out: Tensor) -> None:
    _white(draw, out)
    torch.copysign(torch.tensor(draw.strength), out, out=out)


def _constant(draw: Draw, out: Tensor) -> None:
    level = draw.generator.uniform(-draw.strength, draw.strength, (len(out), 1))
    out.copy_(torch.from_numpy(level))


def _pictures(draw: Draw, out: Tensor, images: Images) -> None:
    picks = torch.from_numpy(draw.generator.integers(len(images.train_images), size=len(out)))
    out.copy_(scaled(images.train_images[picks], images.top))
    _blur(out, draw.strength)


def _digits(draw: Draw, out: Tensor) -> None:
    _pictures(draw, out, draw.images)


def _fashion(draw: Draw, out: Tensor) -> None:
    fashion = load("fashion")
    if fashion.train_images.shape[1] != out.shape[1]:
        raise ValueError(f"inputs 'fashion' have {fashion.train_images.shape[1]} pixels, the digits {out.shape[1]}")
    _pictures(draw, out, fashion)


def _permuted(draw: Draw, out: Tensor) -> None:
    order = torch.from_numpy(rng(draw.seed, "permuted pixels", draw.model).permutation(out.shape[1]))
    picks = torch.from_numpy(draw.generator.integers(len(draw.images.train_images), size=len(out)))
    out.copy_(scaled(draw.images.train_images[picks][:, order], draw.images.top))


def _mixture(draw: Draw, out: Tensor) -> None:
    _white(draw, out)
    picture = torch.empty_like(out)
    _digits(draw._replace(strength=0.0), picture)
    out.mul_(1 - draw.strength).add_(picture, alpha=draw.strength)


@cache
def _kernel(side: int, blur: float) -> Tensor:
    """Gaussian weights (side, side) along one axis, of unit sum at the borders too."""
    places = torch.arange(side, dtype=torch.float64)
    weights = torch.exp(-((places[:, None] - places) ** 2) / (2 * blur**2))
    weights[weights < TINY] = 0
    return (weights / weights.sum(1, keepdim=True)).float()


def _blur(out: Tensor, blur: float) -> None:
    if blur > 0:
        side = round(out.shape[1] ** 0.5)
        kernel = _kernel(side, blur).mT
        across = (out.reshape(-1, side) @ kernel).view(-1, side, side)
        down = across.mT.reshape(-1, side) @ kernel  # long products of contiguous rows: ten times faster than batched
        out.copy_(down.view(-1, side, side).mT.flatten(1))


def _blurred(draw: Draw, out: Tensor) -> None:
    _white(draw, out)
    _blur(out, draw.strength)


def _shaded(draw: Draw, out: Tensor) -> None:
    """Blurred noise about a gray level that differs from image to image, as the brightness of pictures does."""
    _blurred(draw, out)
    out += torch.from_numpy(draw.generator.uniform(-1, 1, (len(out), 1)).astype(np.float32))


@cache
def _frequencies(side: int) -> Tensor:
    """Distance from zero of the frequencies of a real Fourier transform, in cycles per image: (side, side // 2 + 1)."""
    down, across = torch.fft.fftfreq(side, 1 / side), torch.fft.rfftfreq(side, 1 / side)
    return torch.hypot(down[:, None], across)


def _filtered(draw: Draw, out: Tensor, gain: Tensor, *, phase_only: bool) -> None:
    """White noise times `gain` in the Fourier domain; `phase_only` keeps nothing of its own amplitudes."""
    side = round(out.shape[1] ** 0.5)
    _white(draw, out)
    spectrum = torch.fft.rfft2(out.view(-1, side, side))
    if phase_only:
        spectrum /= spectrum.abs().clamp_min(1e-12)
    out.copy_(torch.fft.irfft2(spectrum * gain, s=(side, side)).flatten(1))


def _random_phase(draw: Draw, out: Tensor) -> None:
    side = round(out.shape[1] ** 0.5)
    attenuation = torch.exp(-2 * (pi * draw.strength * _frequencies(side) / side) ** 2)
    attenuation[attenuation < TINY] = 0
    _filtered(draw, out, attenuation * SD * side, phase_only=True)


@cache
def _amplitude(dataset: str, blur: float) -> Tensor:
    """Root mean square of the Fourier amplitudes of blurred training images, each less its mean."""
    images = load(dataset)
    pictures = scaled(images.train_images[:2000], images.top)
    _blur(pictures, blur)
    pictures -= pictures.mean(1, keepdim=True)
    return torch.fft.rfft2(pictures.view(-1, images.side, images.side)).abs().square().mean(0).sqrt()


def _image_spectrum(draw: Draw, out: Tensor) -> None:
    _filtered(draw, out, _amplitude(draw.dataset, draw.strength), phase_only=True)


def _lowpass(draw: Draw, out: Tensor) -> None:
    gain = (_frequencies(draw.images.side) <= draw.strength).float()
    _filtered(draw, out, gain, phase_only=False)


@lru_cache(maxsize=64)
def _directions(seed: int, model: int, pixels: int) -> Tensor:
    """Orthonormal directions (pixel, pixel); the first ones span the model's smaller subspaces."""
    draw = rng(seed, "subspace", model).standard_normal((pixels, pixels), dtype=np.float32)
    return torch.linalg.qr(torch.from_numpy(draw)).Q


def _subspace(draw: Draw, out: Tensor) -> None:
    basis = _directions(draw.seed, draw.model, out.shape[1])[:, : int(draw.strength)]
    weights = draw.generator.standard_normal((len(out), basis.shape[1]), dtype=np.float32) * np.float32(SD)
    torch.matmul(torch.from_numpy(weights), basis.mT, out=out)


@cache
def _ramps(side: int, cells: int) -> Tensor:
    """What each corner's slope (2 numbers for each of (cells + 1)^2 corners) adds to each pixel: (slope, pixel)."""
    place = (torch.arange(side) + 0.5) * cells / side
    corner = torch.arange(cells + 1)
    far = place[None] - corner[:, None]  # (corner, pixel) along one axis
    part = far.abs().clamp_max(1)
    near = 1 - part**3 * (part * (6 * part - 15) + 10)
    weights = torch.einsum("ap,bq->abpq", near, near)
    ramps = torch.stack([weights * far[:, None, :, None], weights * far[None, :, None, :]], dim=2)
    return ramps.flatten(0, 2).flatten(1)


def _perlin(draw: Draw, out: Tensor) -> None:
    """Gradient noise (Perlin, 1985) with `strength` cells along a side, its fade the quintic of Perlin (2002)."""
    cells = int(draw.strength)
    angles = draw.generator.uniform(0, 2 * pi, (len(out), (cells + 1) ** 2)).astype(np.float32)
    slopes = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(out), -1)
    torch.matmul(torch.from_numpy(slopes), _ramps(draw.images.side, cells), out=out)


FAMILIES: dict[str, Callable[[Draw, Tensor], None]] = {
    "uniform": uniform,
    "gaussian": _gaussian,
    "bernoulli": _bernoulli,
    "constant": _constant,
    "images": _digits,
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
