"""The machine at hand: where training runs, in which number type, and on how many threads.

torch is imported where it is used: the press asks about the machine without waiting for it.
"""

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tqdm import auto, std

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
OnStep = Callable[[], object]
PRECISIONS = ("auto", "float32", "bfloat16")
PROCESSOR_INFO = Path("/proc/cpuinfo")
GPU_INFO = Path("/proc/driver/nvidia/gpus")
CGROUP = Path("/sys/fs/cgroup")
CPU_LIMITS = ("cpu.max", "cpu/cpu.cfs_[pq]*_us")  # quota and period, of version 2 and 1


def device() -> "torch.device":
    """Where training runs: the first CUDA device, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def requested_precision() -> str:
    """The number type that SUBLIMINAL_PRECISION asks for; "auto" where it is not set.

    Errors: ValueError for any other value.
    """
    requested = os.environ.get("SUBLIMINAL_PRECISION") or "auto"
    if requested not in PRECISIONS:
        allowed = ", ".join(PRECISIONS)
        raise ValueError(
            f"SUBLIMINAL_PRECISION is {requested!r}; choose one of {allowed}, or unset it"
        )
    return requested


def multiplies_bfloat16() -> bool:
    """Whether AVX512-BF16, AMX or a GPU of capability 8.0 multiplies bfloat16 natively."""
    import torch

    if device().type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision() -> str:
    """Number type of products in training: as requested; "auto" is bfloat16 where native."""
    requested = requested_precision()
    if requested != "auto":
        return requested
    return "bfloat16" if multiplies_bfloat16() else "float32"


def product_type() -> "torch.dtype":
    """The same as torch's type, in which inputs are made ready."""
    import torch

    return getattr(torch, precision())


def hardware() -> str:
    """Device and number type in words, such as "cpu float32": a label of every result."""
    return f"{device().type} {precision()}"


def fingerprint() -> dict[str, str]:
    """What decides the number type, read without torch: request, processor and GPUs."""
    flags = ""
    if PROCESSOR_INFO.exists():
        lines = PROCESSOR_INFO.read_text(encoding="utf8").splitlines()
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    abilities = sorted({"avx2", "avx512f", "avx512_bf16", "amx_tile"} & set(flags.split()))
    gpus = sorted(path.name for path in GPU_INFO.glob("*"))
    return {
        "number type": requested_precision(),
        "processor": " ".join([platform.machine(), *abilities, *gpus]),
    }


def autocast() -> AbstractContextManager:
    """Context in which matrix products run in the chosen number type."""
    import torch

    if precision() == "bfloat16":
        return torch.autocast(device().type, torch.bfloat16)
    return nullcontext()


def cores() -> int:
    """Cores that this process may use: those of its affinity, at most its cgroup's limit."""
    usable = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        usable = len(os.sched_getaffinity(0))
    for pattern in CPU_LIMITS:
        limit = []
        for path in sorted(CGROUP.glob(pattern), reverse=True):
            limit += path.read_text().split()
        if len(limit) == 2 and limit[0].isdigit():  # else "max" or -1: there is no limit
            usable = min(usable, int(limit[0]) // int(limit[1]))
    return max(usable, 1)


def workers() -> int:
    """Threads that train side by side: SUBLIMINAL_THREADS, else every core; on a GPU one."""
    if device().type == "cuda":
        return 1
    return int(os.environ.get("SUBLIMINAL_THREADS") or cores())


@contextmanager
def executor() -> Iterator[Executor]:
    """Workers that train side by side, each with one thread."""
    import torch

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:  # a worker's choice holds for all: what follows would depend on what was trained
            torch.set_num_threads(threads)


def parallel_map(
    function: Callable[[Item, OnStep], Result],
    items: Sequence[Item],
    *,
    total: int = 0,
    title: str = "",
) -> list[Result]:
    """Results of function(item, on_step) on every item, in order, side by side.

    total, title: of a progress bar that every call of on_step moves by one step.
    """
    with progress(total, title) as bar, executor() as pool:
        futures = [pool.submit(function, item, bar.update) for item in items]
        return [future.result() for future in futures]


def progress(total: int = 0, title: str = "") -> std.tqdm:
    """A tqdm bar: in the notebook, or under the press in the file named by SUBLIMINAL_PROGRESS."""
    path = os.environ.get("SUBLIMINAL_PROGRESS")
    if not path:
        return auto.tqdm(total=total, desc=title, unit="step", leave=False)
    file = Path(path).open("a", buffering=1)  # noqa: SIM115
    return std.tqdm(total=total, desc=title, unit="step", file=file, ascii=True, ncols=80)
