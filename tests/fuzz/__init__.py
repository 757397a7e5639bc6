"""Fuzzing: bytes of any kind into everything that reads what strangers made."""
