"""Memory that was freed and that the C library keeps: given back before something large begins."""

import ctypes
import gc


def release() -> None:
    """Collect garbage and, under glibc, return freed memory to the system."""
    gc.collect()
    trim()


def trim() -> None:
    """Return freed memory to the system, under glibc."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # neither macOS nor musl has it
    if malloc_trim:
        malloc_trim(0)
