"""What stands between the web and the app's functions: time limits, errors, arguments and uploads.

A request may hold anything. The functions get numbers, words and the bytes of uploaded files; the visitor gets an
answer or one sentence, and no call keeps the others waiting for longer than its limit.
"""

import asyncio
import inspect
import io
import logging
import os
import stat
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import wraps
from html import escape
from pathlib import Path, PurePath
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

import gradio as gr
from anyio.to_thread import run_sync
from gradio import queueing
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_upload_folder
from starlette.requests import Request
from starlette.responses import JSONResponse

MAX_UPLOAD = 8 * 2**20  # bytes
FOREIGN_FILE = "this picture was not uploaded here, or it has been removed since; upload it again"
SERVER_FAULT = "something went wrong on the server; its log says what"
_READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


# ---------------------------------------------------------------- time


class Limit(NamedTuple):
    """Seconds that a visitor's call may take, after which it is given up."""

    step: float  # until its answer, or its next one
    whole: float  # until its last one


# A large model may draw for minutes on a CPU, and be read from the disk, or fetched from the Hub, before.
LIMITS = {"draw": Limit(120, 900)}
DEFAULT_LIMIT = Limit(120, 120)  # of all others


class _Worker:
    """A thread that works for one call, and is left behind with it if it does not come to an end."""

    def __init__(self) -> None:
        self._tasks = SimpleQueue()
        Thread(target=self._work, daemon=True, name="visitor's call").start()

    def _work(self) -> None:
        for future, context, function, args in iter(self._tasks.get, None):
            try:
                future.set_result(context.run(function, *args))
            except BaseException as error:
                future.set_exception(error)

    def ask(self, seconds: float, function: Callable, *args: object) -> object:
        """What the function returns or raises; gr.Error if it takes longer."""
        future = self._add(function, *args)
        if wait([future], max(seconds, 0)).done:
            return future.result()
        raise gr.Error("this took too long and was given up; try again, or ask for less", print_exception=False)

    def end(self, function: Callable = lambda: None) -> None:
        """Call a function as the last thing, and do not wait for it."""
        self._add(function)
        self._tasks.put(None)

    def _add(self, function: Callable, *args: object) -> Future:
        future = Future()
        self._tasks.put((future, copy_context(), function, args))  # Gradio's request is in the context
        return future


def limited(function: Callable) -> Callable:
    """The function, or generator function, within its limit: work that takes longer goes on without the visitor.

    Gradio's own `time_limit` is for live streams only: a function that hangs would hold its place in the queue for
    good. A generator that is given up is closed as soon as it yields.
    """

    def limit() -> Limit:
        return LIMITS.get(function.__name__, DEFAULT_LIMIT)

    @wraps(function)
    def answer(*args: object) -> object:
        worker = _Worker()
        try:
            return worker.ask(limit().step, function, *args)
        finally:
            worker.end()

    @wraps(function)
    def answers(*args: object) -> Iterator:
        steps, worker, last = function(*args), _Worker(), object()
        end = time.monotonic() + limit().whole
        try:
            while (item := worker.ask(min(limit().step, end - time.monotonic()), next, steps, last)) is not last:
                yield item
        finally:
            worker.end(steps.close)

    return answers if inspect.isgeneratorfunction(function) else answer


class _Queue(queueing.Queue):
    """Gradio's queue, without three ways in which it would stop serving for good, without its statistics, and without
    what would remain of each visit for ever."""

    async def push(self, *given: object, **named: object) -> tuple:
        """As Gradio has it, but visits whose messages it has forgotten, and that wait for nothing, are forgotten."""
        known, open_ = self.pending_messages_per_session, self.pending_event_ids_session
        if len(open_) > 2 * known.max_size:
            for visit in [visit for visit, calls in open_.items() if not calls and visit not in known]:
                del open_[visit]
        return await super().push(*given, **named)

    def compute_analytics_summary(self, records: list) -> dict:
        """Nothing: as Gradio has it, each call would be followed by a table of the last 10,000, which costs more than a
        drawing, and which nobody can see with monitoring off."""
        return self.cached_event_analytics_summary

    async def start_processing(self) -> None:
        """As Gradio has it, but after an error it starts again."""
        while True:
            try:
                return await super().start_processing()
            except Exception:
                logging.getLogger(__name__).exception("the queue failed and starts again")
                self.stopped = False

    def send_message(self, event: queueing.Event, message: queueing.EventMessage) -> None:
        """As Gradio has it, but the visitor may be unknown by now: Gradio remembers the last 2,000."""
        with suppress(KeyError):
            super().send_message(event, message)

    def process_events(self, *given: object) -> Coroutine:
        """As Gradio has it, but a call that is cancelled before it starts gives its place back, too."""

        async def follow() -> None:
            await work

        work = asyncio.ensure_future(super().process_events(*given))
        return follow()


# ---------------------------------------------------------------- errors


@contextmanager
def plain_errors() -> Iterator[None]:
    """ValueErrors of the package become messages on the page; gr.Error renders HTML, hence the escape. Of other errors
    the visitor learns that there was one."""
    try:
        yield
    except gr.Error:  # is a ValueError too
        raise
    except ValueError as error:
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from None
    except Exception:
        raise _failed() from None


def _failed() -> gr.Error:
    logging.getLogger(__name__).exception("a call failed")
    return gr.Error(SERVER_FAULT, print_exception=False)


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    """The answer to a request for an endpoint, or with an argument, that does not exist."""
    logging.getLogger(__name__).warning("a request was refused: %s: %.200r", type(error).__name__, str(error))
    words = "there is no such endpoint, or it does not take these arguments; /gradio_api/info lists them"
    return JSONResponse({"detail": words}, 400)


REFUSALS = dict.fromkeys((FnIndexInferError, LookupError, TypeError, ValueError, AttributeError), _refuse)


# ---------------------------------------------------------------- arguments


class Page(gr.Blocks):
    """A page whose requests are checked before Gradio reads them."""

    def queue(self, *args, **kwargs) -> gr.Blocks:
        """As Gradio has it, with a queue that does not stop."""
        super().queue(*args, **kwargs)
        self._queue.__class__ = _Queue
        self._queue.ANALYTICS_MAX_EVENTS = 100
        return self

    async def process_api(self, *args, **kwargs) -> dict:
        """As Gradio has it, but each error is a sentence."""
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error:
            raise
        except Exception:
            raise _failed() from None

    async def preprocess_data(self, block_fn, inputs: list, state, explicit_call: bool = False) -> list:
        """As Gradio has it, but the number of arguments must be right, files come from `opened`, and no other argument
        can be taken for a file: Gradio would look for it on this machine, or fetch it from another one."""
        wanted = len(block_fn.inputs)
        if block_fn.fn is None:  # what the page does by itself
            raise gr.Error("there is nothing to call here", print_exception=False)
        if len(inputs) != wanted:
            names = ", ".join(list(inspect.signature(block_fn.fn).parameters)[:wanted])
            given = f"{block_fn.api_name or 'this'} takes {wanted} arguments ({names}), and {len(inputs)} were given"
            raise gr.Error(given, print_exception=False)
        files = [getattr(block, "data_model", None) is not None for block in block_fn.inputs]
        plain = [None if file else _plain(value) for file, value in zip(files, inputs, strict=True)]
        read = [await run_sync(opened, value) if file else None for file, value in zip(files, inputs, strict=True)]
        values = await super().preprocess_data(block_fn, plain, state, explicit_call)
        return [one if file else other for file, one, other in zip(files, read, values, strict=True)]


def _plain(value: object) -> object:
    """A number or a string as it is; for a list or an object a string that is no right answer to any question."""
    if isinstance(value, dict | list):
        return "{...}" if isinstance(value, dict) else "[...]"
    return value.encode(errors="replace").decode() if isinstance(value, str) else value  # lone surrogates


# ---------------------------------------------------------------- uploads


def opened(value: object) -> io.BytesIO | None:
    """The uploaded file that an argument stands for, read into memory; None if it is None.

    Anything but a regular file in Gradio's upload folder is refused with one and the same gr.Error. No link is
    followed, and nothing is looked up outside the folder: the answer does not tell which files exist there.
    """
    if value is None:
        return None
    try:
        place = _descriptor(*_inside(value["path"]))
        try:
            memory = io.BytesIO(_content(place))
        finally:
            os.close(place)
    except (OSError, ValueError, TypeError, LookupError):
        raise gr.Error(FOREIGN_FILE, print_exception=False) from None
    memory.name = PurePath(value["path"]).name
    return memory


def _content(place: int) -> bytes:
    """What an open regular file holds; ValueError for anything else, and for more than can be uploaded."""
    status = os.fstat(place)
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_UPLOAD:
        raise ValueError
    with os.fdopen(place, "rb", closefd=False) as file:
        return file.read(MAX_UPLOAD)


def _inside(path: str) -> tuple[str, tuple[str, ...]]:
    """The upload folder, and the parts of a path below it, by its letters alone; ValueError if it is not."""
    folder = os.path.abspath(get_upload_folder())
    for root in (folder, os.path.realpath(folder)):
        with suppress(ValueError):
            return root, PurePath(os.path.normpath(path)).relative_to(root).parts
    raise ValueError


def _descriptor(folder: str, parts: tuple[str, ...]) -> int:
    """What lies there, opened, following no link; OSError or ValueError where that is not possible."""
    if os.open not in os.supports_dir_fd:  # Windows
        path = Path(folder, *parts).resolve()
        path.relative_to(Path(folder).resolve())
        return os.open(path, _READ_ONLY)
    place = os.open(folder, _READ_ONLY)
    for part in parts:
        above = place
        try:
            place = os.open(part, _READ_ONLY | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return place
