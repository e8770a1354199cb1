"""The command line of the press: `python -m press book`, `run` or `why`."""

import sys

from press.site import main

if __name__ == "__main__":
    sys.exit(main())
