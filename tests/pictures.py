"""The README's pictures of the app, from a running one: its first screen, played, and the tab Draw.

    python app.py &
    python tests/pictures.py http://127.0.0.1:7860

Writes alitok_lite/sheets/first-screen.webp and notebooks/app_draw.png. Needs Debian's chromium and playwright.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

HOME = Path(__file__).parents[1]
WAIT, REST = 420, 3000  # milliseconds: a token, and the finished picture
STYLE = """.al-controls, .al-original {display: none !important} .al-stage i {transition: none !important}
.al-player {width: 720px; padding: 6px} .al-player .al-sides {grid-template-columns: 1fr 1fr !important}"""


def animation(page: Page, path: Path) -> None:
    """Both tellings of the first screen after each token. The finished picture comes first and is shown for longer: it
    is all that a still picture of the file shows."""
    player = page.locator(".al-player[data-ready]").first
    player.wait_for()
    page.add_style_tag(content=STYLE)
    player.locator("[data-do=start]").evaluate("button => button.click()")
    last = int(player.locator(".al-scrub").get_attribute("max"))
    frames = []
    for _ in range(last):
        player.locator("[data-do=on]").evaluate("button => button.click()")
        frames.append(Image.open(io.BytesIO(player.screenshot())).convert("RGB"))
    *others, first = frames
    waits = [REST] + [WAIT] * len(others)
    first.save(path, "WEBP", save_all=True, append_images=others, duration=waits, loop=0, quality=85, method=6)


def drawing(page: Page, path: Path) -> None:
    """A drawing under way: the lighthouse with seed 2, two thirds of its tokens there."""
    page.locator("#drawing .al-player[data-ready]").wait_for()
    page.locator("#drawing .al-scrub").fill("14")
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(300)
    page.screenshot(path=path)


def main(url: str) -> None:
    """Both pictures."""
    with sync_playwright() as driver:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 850})
        page.goto(f"{url}/?__theme=light")
        animation(page, HOME / "alitok_lite" / "sheets" / "first-screen.webp")
        page.set_viewport_size({"width": 1280, "height": 720})
        page.goto(f"{url}/?__theme=light&tab=draw&class=lighthouse&seed=2")
        drawing(page, HOME / "notebooks" / "app_draw.png")
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="address of the app")
    main(parser.parse_args().url.rstrip("/"))
