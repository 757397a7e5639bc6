"""`python -m studytag`."""

from studytag.cli.main import main

if __name__ == "__main__":
    main()
