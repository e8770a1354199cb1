"""What a reader moves: widgets for Jupyter and for the static page, from one source in `js/`."""
