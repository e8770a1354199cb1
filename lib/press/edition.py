"""Which edition of the book this is: version, date, addresses, and how to cite it.

Title, authors and version stand in CITATION.cff. A tag such as v0.2.0 names the version of its own
commit; later commits are told apart by their number after it.
"""

import datetime
import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import yaml

from press.layout import fill

KEY = "subliminal-learning-book"
DATED = re.compile(r"^## \S+ \((\d{4}-\d\d-\d\d)\)", re.MULTILINE)  # a heading of CHANGELOG.md


class Edition(NamedTuple):
    """An edition. `release` is the version that a package has; `seconds` are those since 1970."""

    title: str
    authors: list[str]
    release: str
    version: str
    seconds: int

    @property
    def date(self) -> datetime.date:
        """The day, in UTC."""
        moment = datetime.datetime.fromtimestamp(self.seconds, datetime.UTC)
        return moment.date()


def edition(root: Path) -> Edition:
    """The edition of the checkout `root`.

    The date is that of SOURCE_DATE_EPOCH, else of the last commit that changed more than tests,
    else of CHANGELOG.md: never of the clock, so that two builds of one commit are equal.
    """
    path = root / "CITATION.cff"
    text = path.read_text(encoding="utf8")
    citation = yaml.safe_load(text)
    authors = [author["name"] for author in citation["authors"]]
    described = git(root, "describe", "--tags", "--match", "v[0-9]*")
    release = str(citation["version"])
    version = described.removeprefix("v") or release
    told = os.environ.get("SOURCE_DATE_EPOCH")
    committed = git(root, "log", "-1", "--format=%ct", "--", ".", ":!tests")
    seconds = told or committed or day_of_changes(root)
    return Edition(citation["title"], authors, release, version, int(seconds))


def git(root: Path, *arguments: str) -> str:
    """What git says in one line; empty without git, without a repository, without an answer."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


def day_of_changes(root: Path) -> float:
    """The newest day in CHANGELOG.md, in seconds since 1970."""
    path = root / "CHANGELOG.md"
    text = path.read_text(encoding="utf8")
    newest = max(DATED.findall(text))
    day = datetime.datetime.fromisoformat(newest)
    return day.replace(tzinfo=datetime.UTC).timestamp()


def bibtex(this: Edition, site: str = "") -> str:
    """The entry of the book for a bibliography; `site` is its address, if it has one."""
    people = " and ".join(f"{{{name}}}" for name in this.authors)
    lines = [
        f"@book{{{KEY},",
        f"  title   = {{{this.title}}},",
        f"  author  = {{{people}}},",
        f"  year    = {{{this.date.year}}},",
        f"  note    = {{Version {this.version}, {this.date.isoformat()}}},",
    ]
    if site:
        lines.append(f"  url     = {{{site}}},")
    return "\n".join([*lines, "}"])


def cite_box(this: Edition, site: str = "") -> str:
    """HTML of the box that says how to cite the book."""
    entry = bibtex(this, site)
    return fill("cite", this=this, entry=entry)
