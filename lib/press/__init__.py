"""The press: executes the notebooks, turns them into pages and checks the site. Never part of a result's digest."""
