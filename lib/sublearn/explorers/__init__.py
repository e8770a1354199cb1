"""What a reader moves: widgets that live in Jupyter and in the static page, from one JavaScript source in `js/`."""
