"""`accelerate launch train`: fine-tune an encoder; see train/configs/ for configurations."""

from studytag.training.command import main

if __name__ == "__main__":
    main()
