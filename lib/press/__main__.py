"""The command line of the press: `python -m press book`, `run` or `why`."""

import argparse
import ast
import os
import sys

from press import pages
from press.execute import run
from press.plan import PressError, Project, plan
from sublearn.nets.data import DataCorrupt


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m press", description="Run the notebooks and make the book.")
    parser.add_argument(
        "command",
        choices=("book", "run", "why"),
        help="run all and build the site, only run, or say what changed since each notebook ran",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="these notebooks only; 02 is enough")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="the same as NAME")
    parser.add_argument("--profile", default="laptop", help="a profile of profiles.yml (default: laptop)")
    parser.add_argument("-p", action="append", default=[], type=assignment, metavar="KEY=VALUE", help="a parameter")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="notebooks at a time (default: 1)")
    return parser.parse_args(arguments)


def assignment(text: str) -> tuple[str, object]:
    """Read `key=value`; a value that is no Python literal is a text."""
    key, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE, as in -p models=4")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def obey(asked: argparse.Namespace) -> int:
    """Do what the command line asks; returns the exit status."""
    project, only, given = Project(profile=asked.profile), asked.names + asked.only, dict(asked.p)
    if asked.command == "why":
        for job in plan(project, only=only, given=given)[0]:
            print(f"{job.name}  {'; '.join(job.changes) or 'up to date'}")
        return 0
    if not run(project, only=only, given=given, jobs=max(1, asked.jobs)):
        return 1
    if asked.command == "book":
        print(f"The book: {pages.build(asked.profile) / 'index.html'}")
    return 0


def main() -> int:
    """Run the command line; returns 0, 1 for a notebook or page that failed, 2 for a wrong request."""
    try:
        return obey(parse(sys.argv[1:]))
    except (PressError, DataCorrupt, pages.SiteError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1 if isinstance(error, pages.SiteError) else 2
    except KeyboardInterrupt:
        print("Stopped; what is finished is kept, and the next run goes on from there.", flush=True)
        os._exit(130)  # kernels end with this process; leaving in the ordinary way would wait for their cells


if __name__ == "__main__":
    sys.exit(main())
