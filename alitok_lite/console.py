"""Printing that cannot fail what is done: the results of a long command are worth more than a line about them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import TextIO


class _Lenient:
    """A text stream that takes everything: letters that it cannot write are escaped, and once it fails, for instance
    because nobody reads the pipe any more, the rest is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | ValueError | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if it is possible."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if it is possible."""
        with self._dropping():
            self._stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.error = error
            with suppress(OSError, ValueError):  # what is left in its buffer must go somewhere when Python ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextmanager
def lenient_console() -> Iterator[None]:
    """Within the block, printing to stdout and stderr raises no errors; a full disk is told on stderr."""
    streams = [stream and _Lenient(stream) for stream in (sys.stdout, sys.stderr)]  # None where there is no console
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            yield
        finally:
            for stream in filter(None, streams):
                stream.flush()
                if stream.error and not isinstance(stream.error, BrokenPipeError):
                    print(f"alitok_lite: not everything could be printed: {stream.error}", file=sys.stderr)
