"""The site: `build`, and the Sphinx extension that shows the executed copies of the notebooks.

Notebooks lie in git without outputs. The runner leaves executed copies in `_build/executed/PROFILE/`. At the
event `source-read` this extension puts the copy's text in the place of the source, so that the page shows the
outputs while its download button still gives the clean notebook.
"""

import hashlib
import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

from press.checks import problems

ROOT = Path(__file__).resolve().parents[2]
INPUTS = ("_config.yml", "_toc.yml", "profiles.yml", "requirements.txt", "book", "notebooks")
PRESS = tuple(Path(__file__).with_name(f"{name}.py") for name in ("pages", "explore", "binder", "checks"))
SCIENCE = Path(__file__).resolve().parents[1] / "sublearn"
EXPLORERS = (SCIENCE / "explorers",)
MATHJAX = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")  # 2 MB of the packaged 24 MB
REDIRECT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="refresh" content="0; url={page}"><link rel="canonical" href="{page}"></head>
<body><p><a href="{page}">{title}</a></p></body></html>
"""
log = logging.getLogger("sphinx.press.pages")  # where Sphinx listens; to import its own takes a second


class SiteError(RuntimeError):
    """The site could not be built; the text holds every warning and error of the build."""


def build(profile: str, *, root: Path = ROOT) -> Path:
    """Build the site of one profile unless nothing it is made of has changed; returns its folder.

    The laptop profile goes to `_build/html`, any other to `_build/PROFILE/html`. A warning is an error
    (`SiteError`), and so is what `problems` finds. A build that fails or is killed leaves no stamp, so
    that the next one starts afresh.
    """
    html = root / "_build" / ("html" if profile == "laptop" else f"{profile}/html")
    stamp, digest = html.parent / "site.digest", inputs_digest(profile, root)
    if (html / "index.html").exists() and stamp.exists() and stamp.read_text() == digest:
        return html
    stamp.unlink(missing_ok=True)
    for stale in (html, html.parent / ".doctrees", html.parent / "jupyter_execute"):
        shutil.rmtree(stale, ignore_errors=True)
    command = [sys.executable, "-m", "press.binder", str(root), str(html), profile]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    if done.returncode:
        raise SiteError(f"The pages of profile {profile!r} did not build:\n{done.stderr.strip()}")
    if faults := problems(html):
        raise SiteError("\n".join(["The pages were built, but:", *faults]))
    stamp.write_text(digest)
    return html


def inputs_digest(profile: str, root: Path) -> str:
    """Return the SHA-256 over every file that the site of this profile is made of."""
    total = hashlib.sha256(profile.encode())
    places = [root / name for name in INPUTS] + [executed_folder(profile, root), *PRESS, *EXPLORERS]
    for file in sorted(file for place in places for file in [place, *place.rglob("*")]):
        if file.is_file() and ".ipynb_checkpoints" not in file.parts:
            total.update(f"\n{file} ".encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def executed_folder(profile: str, root: Path) -> Path:
    """Return the folder of a profile's executed copies."""
    return root / "_build" / "executed" / profile


def executed(app, docname: str) -> Path | None:
    """Return where the executed copy of a page lies; None for a page that is no notebook."""
    source = Path(app.env.doc2path(docname))
    if source.suffix != ".ipynb":
        return None
    return executed_folder(app.config.executed_profile, Path(app.srcdir)) / source.name


def swap(app, docname: str, source: list[str]) -> None:
    """Put the executed copy in the place of a notebook's source (Sphinx event `source-read`)."""
    copy = executed(app, docname)
    if copy is None:
        return
    app.env.note_dependency(copy)
    if not copy.exists():
        log.warning("no executed copy at %s: %s", copy, cure(app), extra={"location": docname})
        return
    source[0] = copy.read_text(encoding="utf-8")
    if failed := failed_cell(json.loads(source[0])):
        log.warning("cell %d of %s raised an error: %s", failed, copy, cure(app), extra={"location": docname})


def cure(app) -> str:
    """Return what to do for executed copies of the profile in use."""
    profile = app.config.executed_profile
    return "run `make book`" if profile == "laptop" else f"run `python -m press book --profile {profile}`"


def failed_cell(notebook: dict) -> int | None:
    """Return the number (from 1) of the first cell that raised, or None."""
    for number, cell in enumerate(notebook["cells"], start=1):
        raised = any(output["output_type"] == "error" for output in cell.get("outputs", []))
        if raised or "papermill-error-cell-tag" in cell["metadata"].get("tags", []):
            return number
    return None


def note_glue(app, doctree) -> None:
    """Make a page depend on the executed copies it quotes numbers from (Sphinx event `doctree-read`)."""
    for node in doctree.findall(lambda node: type(node).__name__ == "PendingGlueReference"):
        if copy := executed(app, node["refdoc"]):
            app.env.note_dependency(copy)


def mend(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Mend what other extensions get wrong for screen readers: a role withdrawn from ARIA, ids that repeat."""
    body = context.get("body", "").replace('role="doc-biblioentry"', 'role="listitem"')
    context["body"] = re.sub(r' id="(exercise|solution|proof)-content"', "", body)


def finish(app, exception) -> None:
    """Add MathJax, as far as it is needed, and an index page that leads to the first page; drop the icons' script.

    The theme brings its icons twice: as fonts, in its style sheet, and as a script of 1.5 MB.
    """
    if exception is not None or app.builder.name != "html":
        return
    package = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    for part in MATHJAX:
        target = Path(app.outdir, "_static", "mathjax", part)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (package / part).is_dir():
            shutil.copytree(package / part, target, dirs_exist_ok=True)
        else:
            shutil.copy(package / part, target)
    Path(app.outdir, "_static", "scripts", "fontawesome.js").write_text("// The icons come from fonts.\n")
    text = REDIRECT.format(title=app.config.html_title, page=f"{app.config.root_doc}.html")
    Path(app.outdir, "index.html").write_text(text, encoding="utf-8")


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_config_value("executed_profile", "laptop", "env")
    app.connect("source-read", swap)
    app.connect("doctree-read", note_glue)
    app.connect("html-page-context", mend)
    app.connect("build-finished", finish, priority=100)  # before sphinx_external_toc writes an index.html
    return {"parallel_read_safe": True, "parallel_write_safe": True}
