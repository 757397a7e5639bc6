"""Tag a file: `python infer articles.csv tagged.csv`; all options: `python infer --help`."""

from __future__ import annotations

import sys

from studytag.cli.main import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
