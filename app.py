"""The Gradio app, as a Space starts it; the page is in alitok_lite/demo/page.py. Run it with `python app.py`."""

import os
import signal
import sys
from contextlib import suppress

from alitok_lite.cli.page import check_page, own_cache, share_heaps

own_cache()
share_heaps()

if os.environ.get("SPACES_ZERO_GPU"):  # it lends a GPU for a call; must come before anything that touches CUDA
    import spaces  # noqa: F401

from alitok_lite.demo import models  # noqa: E402
from alitok_lite.demo.page import LAUNCH, build  # noqa: E402
from alitok_lite.interrupt import on_signals  # noqa: E402
from alitok_lite.machine import borrowed_gpu  # noqa: E402


def check() -> None:
    """Say which models are left out; without any, or a folder to write in, say so and end."""
    try:
        check_page("app.py")
    except ValueError as error:
        print(f"app.py: {error}", file=sys.stderr)
        sys.exit(2)


check()
demo = build()

if __name__ == "__main__":
    if borrowed_gpu():  # its workers are forked from this process: load now, not in every call
        for name in models.models():
            with suppress(ValueError):  # the log has it, and so will who asks for the model
                models.get_model(name)
    with on_signals(signal.default_int_handler):  # SIGTERM ends it as Ctrl-C does, and nothing is left in the cache
        demo.launch(**LAUNCH)
