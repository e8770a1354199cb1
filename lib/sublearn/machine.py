"""The machine at hand: where training runs, in which number type, and on how many threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import auto, std

Item = TypeVar("Item")
Result = TypeVar("Result")


def device() -> torch.device:
    """Where training runs: the first CUDA device, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> torch.dtype:
    """Number type of matrix products in training: bfloat16 where the processor multiplies it natively, else float32."""
    native = device().type == "cuda" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def hardware() -> str:
    """Device and number type in words, such as "cpu float32": a label of every result."""
    return f"{device().type} {str(precision()).removeprefix('torch.')}"


def products() -> AbstractContextManager:
    """Context in which matrix products run in the chosen number type."""
    return torch.autocast(device().type, precision()) if precision() is torch.bfloat16 else nullcontext()


def workers() -> int:
    """Threads that train side by side: SUBLIMINAL_THREADS if set, else every core (on a GPU one, for all models)."""
    return 1 if device().type == "cuda" else int(os.environ.get("SUBLIMINAL_THREADS") or os.cpu_count() or 1)


def side_by_side(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Results of `function` on every item, in order, each item in one single-threaded worker."""
    with ThreadPoolExecutor(workers(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(function, item) for item in items]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def progress(total: int, label: str) -> std.tqdm:
    """A tqdm bar: in the notebook, or under the press in the file named by SUBLIMINAL_PROGRESS."""
    path = os.environ.get("SUBLIMINAL_PROGRESS")
    if not path:
        return auto.tqdm(total=total, desc=label, unit="step", leave=False)
    return std.tqdm(total=total, desc=label, unit="step", file=Path(path).open("a", buffering=1), ascii=True, ncols=80)
