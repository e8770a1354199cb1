"""Pages of explorers alone, from a file, without the book."""

import pytest

from sublearn.explorers import base
from visit import Visit

HEAD = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'


@pytest.fixture
def show(browser, tmp_path):
    """Show explorers on a page from a file; what goes wrong in the browser fails the test."""
    visits = []

    def opened(*explorers, width=1280, height=900, fragment="", colors="light", **options):
        names = tuple(sorted({explorer.module for explorer in explorers}))
        parts = [HEAD, f"<title>Explorers</title><style>body {{ margin: 0 }} {base.CSS}</style>"]
        for explorer in explorers:
            parts.append(explorer.html())
        parts.append(f"<script>{base.page_script(names)}</script>")
        path = tmp_path / "page.html"
        path.write_text("\n".join(parts), encoding="utf8")
        visit = Visit(browser, width, colors, **options)
        visit.page.set_viewport_size({"width": width, "height": height})
        visits.append(visit)
        visit.page.goto(path.as_uri() + fragment)
        live = (
            f"document.querySelectorAll('[data-live] .explorer-link').length === {len(explorers)}"
        )
        visit.page.wait_for_function(live)
        return visit.page

    yield opened
    faults = [fault for visit in visits for fault in visit.faults]
    for visit in visits:
        visit.context.close()
    assert not faults
