"""How long the chapters take, as a table on a page: `{timings}`."""

from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import Directive

from press.runner import CHAPTERS, Project
from sublearn.core import store

PROFILES = ("smoke", "laptop")
FRAME = (
    '<div class="pst-scrollable-table-container" tabindex="0" role="region" '
    'aria-label="Seconds by chapter">'
)
NAMES = ("chapter", "smoke", "smoke, here", "laptop", "laptop, here")
HEAD = "<tr>" + "".join(f"<th>{name}</th>" for name in NAMES) + "</tr>"


def expected(project: Project, profile: str) -> dict[str, float]:
    """Seconds of each chapter as `profiles.yml` has them, measured on two cores."""
    text = (project.root / "profiles.yml").read_text(encoding="utf8")
    return yaml.safe_load(text)[profile].get("seconds", {})


def measured(project: Project, profile: str) -> dict[str, float]:
    """Seconds of the last run of each chapter here; finished models are not run again."""
    other = Project(project.root, profile)
    return store.read_json(other.private("times.json")) or {}


def shown(seconds: float | None) -> str:
    """Seconds as a cell."""
    return "–" if seconds is None else f"{seconds:.0f} s"


def table(project: Project) -> str:
    """HTML of the table: a row for each chapter, and their sum of what is expected."""
    columns, totals = [], []
    for profile in PROFILES:
        by_name = expected(project, profile)
        columns += [by_name, measured(project, profile)]
        totals += [sum(by_name.values()), None]
    rows = []
    for path in sorted((project.root / "notebooks").glob(CHAPTERS)):
        title = store.read_json(path)["cells"][0]["source"][0].lstrip("# ").strip()
        rows.append([title, *(shown(column.get(path.stem)) for column in columns)])
    rows.append(["all, one after the other", *map(shown, totals)])
    body = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
    return f'{FRAME}<table class="table">{HEAD}{body}</table></div>'


class TimingsDirective(Directive):
    """Show the table."""

    def run(self) -> list[nodes.Node]:
        """HTML of the table, made anew at each build."""
        environment = self.state.document.settings.env
        environment.note_reread()
        return [nodes.raw("", table(Project(Path(environment.app.srcdir))), format="html")]


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_directive("timings", TimingsDirective)
    return {"parallel_read_safe": True}
