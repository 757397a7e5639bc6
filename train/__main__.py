"""`accelerate launch train`: fine-tune an encoder; see README.md here."""

from studytag.cli.train import main

if __name__ == "__main__":
    main()
