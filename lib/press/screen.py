"""The terminal: one line per notebook under way, rewritten in place or else printed now and then."""

import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import NamedTuple

HEARTBEAT = 30.0  # seconds between two lines of a notebook where lines cannot be rewritten


class Begun(NamedTuple):
    """A notebook under way: when it began (monotonic clock), how long it may take (s), its progress file."""

    start: float
    expected: float | None
    progress: Path


def clock(seconds: float) -> str:
    """Write a duration as minutes and seconds, `2:05`."""
    return "{}:{:02d}".format(*divmod(round(seconds), 60))


def latest(progress: Path) -> str:
    """Return the last piece of text in a progress file, whose pieces end in carriage returns."""
    text = progress.read_bytes().decode(errors="replace") if progress.exists() else ""
    return ([""] + [piece.strip() for piece in text.splitlines() if piece.strip()])[-1]


def line(name: str, begun: Begun) -> str:
    """Tell the state of one notebook: elapsed and expected time, and what its training says."""
    about = f" of about {clock(begun.expected)}" if begun.expected else ""
    return f"{name}  {clock(time.monotonic() - begun.start)}{about}  {latest(begun.progress)}".rstrip()


def watch(futures: dict[Future, str], begun: dict[str, Begun]) -> Iterator[tuple[str, Future]]:
    """Show the notebooks in `begun`, which their threads fill, and give each one as it ends."""
    waiting, drawn, due = set(futures), 0, {}
    rewrite, width = sys.stdout.isatty(), shutil.get_terminal_size().columns - 1
    while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        print(f"\x1b[{drawn}A\x1b[J" if drawn else "", end="")
        for future in done:
            yield futures[future], future
        names = [name for future, name in futures.items() if future in waiting and name in begun]
        names = [name for name in names if rewrite or time.monotonic() >= due.get(name, 0.0)]
        for name in names:
            due[name] = time.monotonic() + HEARTBEAT
            print(line(name, begun[name])[: width if rewrite else None])
        drawn = len(names) if rewrite else 0
        sys.stdout.flush()
