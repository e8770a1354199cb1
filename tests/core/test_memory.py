"""Freed memory goes back to the system."""

from pathlib import Path

import pytest
import torch

from sublearn.core import memory

STATUS = Path("/proc/self/status")


def resident():
    """Resident memory of this process, MiB."""
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells a process its size in /proc")
def test_freed_memory_is_given_back_though_something_above_it_stays():
    pieces = [torch.ones(16_384) for _ in range(4_000)]  # 64 KiB each: too small to be mapped alone
    last = torch.ones(16_384)
    before = resident()
    pieces.clear()
    memory.release()
    assert before - resident() > 150 and last.sum() == 16_384


def test_release_is_harmless_without_glibc(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.release()
