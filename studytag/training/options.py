"""The command-line flags of training: one for each option, `--learning-rate` or `--learning_rate`.

Standard library only, so that help and mistakes appear before torch is imported.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from typing import Any

from studytag.training.config import (
    TrainingConfig,
    option_type,
    read_config,
    shipped_configs,
)


def parse_config(arguments: Sequence[str] | None = None) -> TrainingConfig:
    """Read `--config` and the flags that override it.

    Args:
        arguments: Those of the process unless given.

    Raises:
        InputError: the configuration or an option's value is unusable.
        SystemExit: a flag is unknown or malformed, or help was asked for.
    """
    given = sys.argv[1:] if arguments is None else arguments
    return config_of(option_parser().parse_args(normalise_flags(given)))


def option_parser() -> argparse.ArgumentParser:
    """A parser of the options; what it returns holds only those that were given."""
    parser = argparse.ArgumentParser(
        prog="studytag train",
        usage="studytag train [--config NAME|FILE] [--OPTION VALUE ...]",
        description="Fine-tune an encoder on labelled tables and tune its thresholds.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help=f"YAML file of the options below, or one that ships: {', '.join(shipped_configs())}",
    )
    for option in fields(TrainingConfig):
        kind, _ = option_type(option.name)
        switch: dict[str, Any] = {"nargs": "?", "const": True} if kind is bool else {}
        parser.add_argument(
            f"--{option.name.replace('_', '-')}",
            dest=option.name,
            type=_converter(option.name),
            metavar="true|false" if kind is bool else _METAVARS.get(kind, kind.__name__.upper()),
            help=_help(option),
            **switch,
        )
    return parser


def config_of(options: argparse.Namespace) -> TrainingConfig:
    """The configuration that parsed options make.

    Raises:
        InputError: the configuration file or an option's value is unusable.
    """
    given = dict(vars(options))
    source = given.pop("config", None)
    return TrainingConfig(**given) if source is None else read_config(source, given)


def normalise_flags(arguments: Sequence[str]) -> list[str]:
    """The arguments with flags in kebab case: `--learning_rate=1e-4` is `--learning-rate=1e-4`."""
    normalised = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        kebab = flag.replace("_", "-") if flag.startswith("--") else flag
        normalised.append(kebab + equals + value)
    return normalised


_METAVARS = {str: "TEXT", tuple: "NAMES", dict: "JSON", int: "N", float: "X"}


def _help(option: Field[Any]) -> str:
    text: str = option.metadata["help"].replace("%", "%%")
    if option.default in (MISSING, None, ()):
        return text
    default = str(option.default).lower() if isinstance(option.default, bool) else option.default
    return f"{text} (default: {default})"


def _converter(name: str) -> Callable[[str], Any]:
    """What turns a flag's text into the option's value."""
    kind, optional = option_type(name)

    def convert(text: str) -> Any:
        if optional and text.lower() == "none":
            return None
        try:
            if kind is bool:
                return _BOOLEANS[text.lower()]
            if kind is tuple:
                return tuple(part.strip().replace("-", "_") for part in text.split(","))
            return _mapping(text) if kind is dict else kind(text)
        except (ValueError, KeyError) as error:
            wanted = {bool: "true or false", dict: "a JSON object", int: "a whole number"}
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {wanted.get(kind, 'a number')}"
            ) from error

    return convert


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _mapping(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value
