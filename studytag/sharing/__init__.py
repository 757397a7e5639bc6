"""Bundles for others: a package that pip installs, a model on the Hugging Face Hub."""
