"""The press: executes the notebooks and binds the site. Never part of a result's digest."""
