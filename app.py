"""The Gradio app, as a Space starts it; the page is in alitok_lite/demo/page.py. Run it with `python app.py`."""

import atexit
import os
import shutil
import sys
import tempfile
from contextlib import suppress

if not os.environ.get("GRADIO_TEMP_DIR"):  # Gradio's own has one name for all users of a machine; read at its import
    os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="alitok_lite-")
    atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)


if os.environ.get("SPACES_ZERO_GPU"):  # it lends a GPU for a call; must come before anything that touches CUDA
    import spaces  # noqa: F401

from alitok_lite.demo import components, models
from alitok_lite.demo.page import LAUNCH, build
from alitok_lite.machine import borrowed_gpu


def check() -> None:
    """Say which models are left out; without any, or a folder to write in, say so and end."""
    try:
        components.check_cache()
        models.models()
    except ValueError as error:
        print(f"app.py: {error}", file=sys.stderr)
        sys.exit(2)
    for line in models.LEFT_OUT:
        print(f"app.py: {line}", file=sys.stderr)


check()
demo = build()

if __name__ == "__main__":
    if borrowed_gpu():  # its workers are forked from this process: load now, not in every call
        for name in models.models():
            with suppress(ValueError):  # the log has it, and so will who asks for the model
                models.get_model(name)
    demo.launch(**LAUNCH)
