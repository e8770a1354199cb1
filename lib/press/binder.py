"""Bind the pages into a site: what `jupyter-book build` does, into any folder and for any profile."""

import sys
from pathlib import Path

from jupyter_book.sphinx import build_sphinx
from sphinx.util.console import nocolor


def bind(root: Path, html: Path, *, profile: str) -> int:
    """Build the book at `root` into the folder `html`; 0 when all went well, and a warning is an error."""
    overrides = {
        "executed_profile": profile,
        "external_toc_path": str(root / "_toc.yml"),
        "latex_individualpages": False,
        "nitpicky": True,
    }
    nocolor()  # the warnings are read from a pipe
    status = build_sphinx(
        root, html, path_config=root / "_config.yml", noconfig=True, confoverrides=overrides,
        freshenv=True, quiet=True, warningiserror=True, keep_going=True,
    )  # fmt: skip
    return status if isinstance(status, int) else 1  # jupyter-book returns an exception, it does not raise it


if __name__ == "__main__":
    sys.exit(bind(Path(sys.argv[1]), Path(sys.argv[2]), profile=sys.argv[3]))
