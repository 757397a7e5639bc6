"""`accelerate launch -m studytag.training`."""

from studytag.training.command import main

if __name__ == "__main__":
    main()
