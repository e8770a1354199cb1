"""Randomness by name: every draw comes from a generator whose name says what it is for.

What an experiment varies never enters a name. So two arms that differ in, say, the learning rate
share initial weights, data order and noise without any bookkeeping, and model 3 is the same model 3
whether it is trained alone or among a hundred.
"""

from hashlib import blake2b

import numpy as np


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """Independent generator for one named use.

    The name is hashed to the 128-bit seed of a counter-like generator (SFC64), so the generator of
    step 7 needs neither those of steps 0 to 6 nor any stored state.

    >>> rng(0, "init", 3, "hidden.0.weight").integers(1000) == rng(0, "init", 3,
    "hidden.0.weight").integers(1000) True
    """
    name = repr((int(seed), *names)).encode()
    hashed = blake2b(name, digest_size=16).digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(hashed, "little")))
