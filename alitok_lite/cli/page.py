"""The page as a program: the command app, and what app.py shares with it."""

import argparse
import atexit
import ctypes
import os
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress

from ..interrupt import on_signals

HEAPS = 2  # of malloc, for all threads
_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def own_cache() -> None:
    """Give Gradio a folder of our own for its files, unless GRADIO_TEMP_DIR names one; before Gradio is imported.

    Gradio's own has one name for all users of a machine, and belongs to the first of them.
    """
    if not os.environ.get("GRADIO_TEMP_DIR"):
        os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="alitok_lite-")
        atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)


def share_heaps() -> None:
    """Let all threads share HEAPS heaps, where the C library is glibc, unless MALLOC_ARENA_MAX is set; before torch is
    imported, since a process with more heaps keeps to glibc's own limit.

    That is eight for each core. Each call to the page is a new thread, and each heap keeps what a call once needed:
    100 MB on two cores, for nothing, since one model runs at a time.
    """
    if not os.environ.get("MALLOC_ARENA_MAX"):
        with suppress(AttributeError, OSError, TypeError):  # another C library
            ctypes.CDLL(None).mallopt(_ARENA_MAX, HEAPS)


def check_page(program: str) -> None:
    """Say on stderr which models are left out; ValueError without any, or without a folder to write in."""
    from ..demo import components, models

    components.check_cache()
    models.models()
    for line in models.LEFT_OUT:
        print(f"{program}: {line}", file=sys.stderr)


def _check_host(host: str | None) -> None:
    """Raise a ValueError unless one can listen there; Gradio would try a hundred ports first."""
    try:
        socket.create_server((host or "", 0), family=socket.AF_INET6 if ":" in (host or "") else socket.AF_INET).close()
    except (OSError, UnicodeError):
        raise ValueError(f"--host is {host!r}, which is no address of this machine; try 127.0.0.1 or 0.0.0.0") from None


def app(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C or SIGTERM."""
    if args.port is not None and not 1 <= args.port <= 65535:
        raise ValueError(f"--port is {args.port}; it must be a whole number from 1 to 65535")
    _check_host(args.host)
    own_cache()
    share_heaps()
    from ..demo.page import LAUNCH, build

    check_page("alitok_lite")
    given = {"server_name": args.host, "server_port": args.port, "share": args.share, "inbrowser": args.browser}
    try:
        with on_signals(signal.default_int_handler):
            build().launch(**LAUNCH | given)
    except OSError as error:
        if "empty port" not in str(error):
            raise
        port = args.port or os.environ.get("GRADIO_SERVER_PORT", "7860 to 7959")
        raise ValueError(f"port {port} is taken: give another one with --port") from None
