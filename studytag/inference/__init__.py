"""Serving a bundle: needs numpy, onnxruntime and tokenizers, nothing else."""
