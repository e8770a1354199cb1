"""The smoke book, killed at random moments and built twice at once: does every number come out the same?

    .venv/bin/python tests/kills.py --kills 100 --pairs 20

Not a part of `make test`: a hundred kills take half an hour. Each comes within WITHIN of a build's duration: the next
build goes on from what the killed one left, so that together they cut every part of the book, the site's as well. Works
on the profile smoke of this checkout and on stores of its own in a temporary folder. Ends with exit status 1 at the
first difference from an undisturbed run.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from press.checks import problems
from sublearn.core.store import ROOT

BUILD = ROOT / "_build"
MADE = [BUILD / "executed/smoke", BUILD / "results/smoke", BUILD / "press/smoke", BUILD / "smoke"]
WITHIN = 0.5  # of an undisturbed build's duration
VARYING = ["code", "date"]  # columns of the results that say when and by what, not what


def start(store):
    """Begin a build of the smoke book whose finished arms go to `store`."""
    command = [sys.executable, "-I", "-m", "press", "book", "--profile", "smoke", "--jobs", "2"]
    environment = os.environ | {"SUBLIMINAL_CACHE": str(store)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, **quiet)


def wipe():
    """Forget what was built."""
    for folder in MADE:
        shutil.rmtree(folder, ignore_errors=True)


def forget_one(moments):
    """Forget one notebook's run, drawn at random, and the site, so that there is something to build."""
    (BUILD / "smoke/site.digest").unlink(missing_ok=True)
    copies = sorted((BUILD / "executed/smoke").glob("*.ipynb"))
    if copies:
        moments.choice(copies).unlink()


def numbers():
    """Every recorded number of the smoke book, as one table."""
    tables = []
    for path in sorted((BUILD / "results/smoke").glob("*.csv")):
        table = pd.read_csv(path).drop(columns=VARYING, errors="ignore")  # the scorecard has none
        tables.append(table.assign(notebook=path.stem))
    return pd.concat(tables, ignore_index=True)


def check(expected, what):
    """Stop where a number or the site differs from an undisturbed run's."""
    found = numbers()
    faults = problems(BUILD / "smoke/html")
    if not found.equals(expected):
        sys.exit(
            f"{what}: {(found != expected).sum().sum()} entries differ from the undisturbed run's"
        )
    if faults:
        sys.exit(f"{what}: the site is not whole: {faults[0]}")
    print(f"{what}: {len(found)} records equal, site whole", flush=True)


def finish(process):
    """Wait for a build, which must end well."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"a build ended with {process.returncode}: {errors}")


def kill_at_random(kills, expected, seconds, store, moments):
    """Kill builds at random moments of their duration; check every build that comes through, and the last one."""
    done = 0
    while done < kills:
        process = start(store)
        try:
            process.wait(moments.uniform(0, WITHIN * seconds))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            done += 1
            print(f"kill {done} of {kills}", flush=True)
            continue
        check(expected, f"came through after {done} kills")
        wipe()
        shutil.rmtree(store)
    finish(start(store))
    check(expected, f"after {kills} kills")


def build_twice(pairs, expected, store, moments):
    """Start two builds 0 to 10 s apart: both end well, for the second waits, and the site is whole."""
    for pair in range(1, pairs + 1):
        forget_one(moments)
        first = start(store)
        time.sleep(moments.uniform(0, 10))
        second = start(store)
        for process in (first, second):
            finish(process)
        check(expected, f"pair {pair} of {pairs}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        wipe()
        begun = time.monotonic()
        finish(start(Path(folder, "undisturbed")))
        seconds = time.monotonic() - begun
        expected = numbers()
        print(f"undisturbed: {len(expected)} records in {seconds:.0f} s", flush=True)
        wipe()
        kill_at_random(options.kills, expected, seconds, Path(folder, "killed"), moments)
        build_twice(options.pairs, expected, Path(folder, "undisturbed"), moments)


if __name__ == "__main__":
    main()
