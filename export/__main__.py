"""Make a bundle of the best model: `python export`; all options: `python export --help`."""

from __future__ import annotations

import sys

from studytag.cli.main import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
