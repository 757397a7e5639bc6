"""Vocabulary, templates and composing logic of the invented demo articles."""
