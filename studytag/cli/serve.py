"""`studytag serve`: the tagger over HTTP, with a page for people."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import socket
from contextlib import nullcontext
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from studytag.cli.json_log import json_log
from studytag.cli.options import add_predictor_arguments, load_predictor
from studytag.cli.signals import stop_requests
from studytag.errors import InputError
from studytag.outputs import folder_in_use
from studytag.service.app import create_app
from studytag.service.settings import Settings

logger = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_GRACE_SECONDS = 30
_MOST_HOURS = 24 * 366 * 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.set_defaults(run=run)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=_port, default=8000, help="port to listen on; 0 takes any")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the token that callers must send (Authorization: Bearer ...)",
    )
    parser.add_argument(
        "--no-token",
        action="store_true",
        help="serve other machines without a token, as behind a proxy that asks for one",
    )
    parser.add_argument(
        "--state",
        type=Path,
        metavar="FOLDER",
        default=Path("studytag-state"),
        help="where uploaded files and their results are kept",
    )
    parser.add_argument(
        "--keep-hours",
        type=_hours,
        metavar="H",
        default=Settings.keep_hours,
        help="how long a file and its results are kept once it is tagged",
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        default=[],
        help="a name under which callers reach it, as behind a proxy; may be given again",
    )
    parser.add_argument("--log-json", action="store_true", help="log JSON, one object a line")
    add_predictor_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Serve until a signal to end comes; requests at work are finished first.

    Raises:
        StudytagError: an option or the bundle is wrong.
    """
    settings = _settings(options)
    listening = _listen(options.host, options.port)
    with (
        listening,
        json_log() if options.log_json else nullcontext(),
        # A second service would begin the jobs of the first anew, and fail them.
        folder_in_use(settings.state, f"--state {settings.state}"),
    ):
        predictor = load_predictor(options)
        app = create_app(predictor, settings)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info("serving %s on http://%s:%d", predictor.path, shown, port)
        with stop_requests():  # uvicorn passes signals on when it has ended: end well, not by them
            Server(app).run(sockets=[listening])


class Server(uvicorn.Server):
    """Tells the app as soon as a signal comes, so that what streams ends at once."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._service = app.state.service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal."""
        self._service.stopping = True
        super().handle_exit(sig, frame)


def _port(text: str) -> int:
    # Of a number that is too large the system would take another one in its place.
    if not (text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to 65535")
    return int(text)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours <= _MOST_HOURS:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 to {_MOST_HOURS}")
    return hours


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}); name others"
        ) from error
    # asyncio does so only for sockets that name TCP as their protocol. Without it the end of an
    # answer waits 40 ms, until the caller's system has acknowledged its beginning.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _settings(options: argparse.Namespace) -> Settings:
    token = None if options.token_file is None else _token(options.token_file)
    local = _is_loopback(options.host)
    if not local and token is None and not options.no_token:
        raise InputError(
            f"--host {options.host}: other machines could use it; give --token-file, or --no-token"
        )
    hosts = tuple(options.allow_host)
    if hosts or (local and token is None):
        hosts += LOOPBACK_NAMES
    return Settings(state=options.state, token=token, hosts=hosts, keep_hours=options.keep_hours)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read; give a text file with the token") from error
    if not token:
        raise InputError(f"{file}: is empty; write a long random token into it")
    if not (token.isascii() and token.isprintable()):
        raise InputError(f"{file}: a header cannot hold this token; take letters and digits")
    return token
