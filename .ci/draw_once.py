"""Wait for the app at an address, draw two pictures through its API, and check the PNG that comes back."""

import sys
import time

from gradio_client import Client
from PIL import Image

client, deadline = None, time.monotonic() + 120
while client is None:
    try:
        client = Client(sys.argv[1], verbose=False)
    except Exception:  # not up yet: whatever kind of connection error
        if time.monotonic() > deadline:
            raise
        time.sleep(0.5)
answer = client.predict(seed="7", count=2, api_name="/draw")
picture = answer[2]["value"] if isinstance(answer[2], dict) else answer[2]
with Image.open(picture) as image:
    print("drawn:", image.size, image.text)
    assert image.text["seed"] == "7"
