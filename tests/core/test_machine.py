"""The number type is a visible choice, and "auto" follows what the device multiplies natively."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from sublearn.core import machine


def pretend(monkeypatch, *, avx512_bf16=False, amx=False, capability=None):
    """Act as a processor with these abilities, or as a GPU of this capability."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


@pytest.mark.parametrize(
    ("abilities", "expected"),
    [
        ({}, "cpu float32"),
        ({"avx512_bf16": True}, "cpu bfloat16"),
        ({"amx": True}, "cpu bfloat16"),
        (
            {"capability": (7, 5), "avx512_bf16": True},
            "cuda float32",
        ),  # T4, V100: bfloat16 would be emulated
        ({"capability": (8, 0)}, "cuda bfloat16"),
        ({"capability": (9, 0)}, "cuda bfloat16"),
    ],
)
def test_auto_takes_bfloat16_only_where_the_device_multiplies_it_natively(
    monkeypatch, abilities, expected
):
    monkeypatch.delenv("SUBLIMINAL_PRECISION", raising=False)
    pretend(monkeypatch, **abilities)
    assert machine.hardware() == expected


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_request_wins_over_the_processor_and_reaches_the_products(monkeypatch, precision, native):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", precision)
    pretend(monkeypatch, avx512_bf16=native)
    with machine.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert machine.precision() == precision
    assert product.dtype is getattr(torch, precision)


def test_an_unknown_number_type_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PRECISION", "half")
    with pytest.raises(
        ValueError,
        match="SUBLIMINAL_PRECISION is 'half'; choose one of auto, float32, bfloat16, or",
    ):
        machine.precision()
    command = [sys.executable, "-m", "press", "why", "01", "--profile", "smoke"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "SUBLIMINAL_PRECISION is 'half'" in done.stderr


def test_the_fingerprint_is_read_without_torch_and_names_the_request():
    code = "import sys; from sublearn.core import machine; print(machine.fingerprint(), 'torch' in sys.modules)"
    environment = os.environ | {"SUBLIMINAL_PRECISION": "float32"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "'number type': 'float32'" in done.stdout
    assert done.stdout.endswith("False\n")


def test_parallel_map_keeps_the_order_moves_the_bar_and_passes_errors_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBLIMINAL_PROGRESS", str(tmp_path / "progress"))

    def work(item, on_step):
        on_step()
        if item == "bad":
            raise RuntimeError("bad item")
        return item * 2

    assert machine.parallel_map(work, [3, 1, 2], total=3, title="items") == [6, 2, 4]
    assert "items: 100%" in (tmp_path / "progress").read_text()
    with pytest.raises(RuntimeError, match="bad item"):
        machine.parallel_map(work, ["bad", "good"])


@pytest.mark.parametrize("threads", [1, 3])
def test_as_many_items_at_a_time_as_threads_are_asked_for(monkeypatch, threads):
    monkeypatch.setenv("SUBLIMINAL_THREADS", str(threads))
    barrier = threading.Barrier(threads, timeout=30)

    def work(item, on_step):
        barrier.wait()
        return torch.get_num_threads()

    assert machine.parallel_map(work, range(threads)) == [1] * threads


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "3200000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_burst_us": "0\n", "cpu/cpu.cfs_period_us": "100000\n",
          "cpu/cpu.cfs_quota_us": "300000\n"}, 3),
    ],
)  # fmt: skip
def test_a_containers_share_of_the_cores_is_what_trains(monkeypatch, tmp_path, files, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 32)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.delenv("SUBLIMINAL_THREADS", raising=False)
    pretend(monkeypatch)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.workers() == machine.cores() == expected


def test_what_follows_has_the_threads_it_had_before():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        machine.parallel_map(lambda item, on_step: item, [1, 2])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
