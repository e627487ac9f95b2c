"""The page in headless Chromium: every tab, drawing, stopping, uploading, keyboard, phone and dark mode.

Run with `pytest -m browser`; needs Debian's chromium. Screenshots go to the folder $SCREENSHOTS, if set.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from test_app import BASELINE, MAIN, app, checkpoints, client, load_app  # noqa: F401 (fixtures)

from alitok_lite import model
from alitok_lite.demo import drawing, examples, tour
from alitok_lite.demo import words as demo_words

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, client, request, tmp_path):
    """Opens the page; afterwards nothing may have been asked of another machine, nor have gone wrong in the page."""
    foreign, wrong, contexts = [], [], []

    def open_page(size: str = "desk", theme: str = "light"):
        contexts.append(browser.new_context(viewport=SIZES[size]))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        own = (client.src.rstrip("/"), "data:", "blob:")
        page.on("request", lambda asked: None if asked.url.startswith(own) else foreign.append(asked.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
        page.goto(f"{client.src}?__theme={theme}")
        page.get_by_role("button", name="Draw", exact=True).wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert (foreign, wrong) == ([], [])


@pytest.fixture
def shoot(tmp_path) -> Callable:
    """Stores a screenshot of the whole page, and looks whether it is wider than the screen."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(page, name: str) -> None:
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}.png", full_page=True)
        assert (folder / f"{name}.png").stat().st_size > 10_000
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name

    return shoot


def open_tab(page, tab: str) -> None:
    title = demo_words.TABS[tab].title
    button = page.get_by_role("tab", name=title)
    if not button.is_visible():  # on a phone, in the menu behind the dots
        page.locator(".overflow-menu > button").click()
        button = page.locator(".overflow-dropdown").get_by_text(title)
    button.click()


def wait_for(page, text: str) -> None:
    page.get_by_text(re.compile(text)).first.wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_tab(visit, shoot, size, theme):
    page = visit(size, theme)
    shoot(page, f"{size}-{theme}-first")
    page.get_by_role("button", name="Draw", exact=True).click()
    wait_for(page, r"^Token 1\d of 21")
    shoot(page, f"{size}-{theme}-drawing")
    wait_for(page, "^Drawn in .* seed")
    shoot(page, f"{size}-{theme}-draw")
    words = {"reconstruct": "became 21 tokens", "look": "^Image token", "poke": "became 512", "predict": "^Loss of"}
    for tab, text in words.items():
        open_tab(page, tab)
        wait_for(page, text)
        shoot(page, f"{size}-{theme}-{tab}")
        unnamed = page.locator("img:visible:not([alt])").count() + page.locator("[role=img]:not([aria-label])").count()
        assert unnamed == 0


def test_drawing_stops(visit, monkeypatch):
    monkeypatch.setattr(drawing, "SLOW_SECONDS", 30)
    page = visit()
    page.get_by_role("button", name="Draw", exact=True).click()
    wait_for(page, "^Token 3 of")
    page.get_by_role("button", name="Stop", exact=True).click()
    wait_for(page, "^Stopped")
    page.wait_for_timeout(2500)
    assert page.locator("#status").inner_text().strip() == "Stopped."
    assert page.get_by_role("button", name="Download PNG").is_disabled()


def test_stop_leaves_a_finished_drawing(visit):
    page = visit()
    page.get_by_role("button", name="Stop", exact=True).click()  # nothing was drawn yet
    page.wait_for_timeout(500)
    assert page.locator("#status").inner_text().strip().endswith("Press Draw.")
    page.get_by_role("button", name="Draw", exact=True).click()
    wait_for(page, "^Drawn in")
    told = page.locator("#status").inner_text()
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_timeout(1000)
    assert "seed" in told and page.locator("#status").inner_text() == told


def test_another_model_ends_a_drawing(visit, monkeypatch):
    """What is drawn by one model does not go on under the name of another."""
    monkeypatch.setattr(drawing, "SLOW_SECONDS", 30)
    page = visit()
    page.get_by_role("button", name="Draw", exact=True).click()
    wait_for(page, "^Token 3 of")
    page.get_by_label("Model", exact=True).first.click()
    page.get_by_role("option", name=BASELINE).click()
    wait_for(page, "^Examples of painted scenes, not drawn by this model")
    page.wait_for_timeout(4000)
    assert page.locator("#status").inner_text().startswith("Examples of painted scenes")
    assert page.locator("#result img").get_attribute("alt") == "Examples made earlier"
    page.get_by_role("button", name="Draw", exact=True).click()
    wait_for(page, "^Token 1 of 16")


def test_drawing_with_the_keyboard_alone(visit):
    page = visit()
    page.locator("#kinds input").first.focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    assert page.locator("#kinds input:checked").get_attribute("value") == "fish"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Draw":
            break
    page.keyboard.press("Enter")
    wait_for(page, "^Drawn in")
    assert "class fish" in page.locator("#result img").get_attribute("alt")
    link = page.get_by_role("link", name="Download PNG").or_(page.get_by_role("button", name="Download PNG"))
    assert link.first.is_enabled()


def test_looking_with_mouse_and_keyboard(visit):
    page = visit()
    open_tab(page, "look")
    page.locator(".al-pick [data-token='7']").click()
    wait_for(page, r"^Image token \(0, 2\)")
    for key, place in (("ArrowDown", "(1, 2)"), ("ArrowLeft", "(1, 1)"), ("ArrowUp", "(0, 1)")):
        page.keyboard.press(key)
        wait_for(page, "^Image token " + re.escape(place))
    page.keyboard.press("ArrowUp")
    wait_for(page, "^Prefix token 2")


def test_upload_and_slider(visit, tmp_path):
    page = visit()
    open_tab(page, "reconstruct")
    wait_for(page, "became 21 tokens")
    page.get_by_text("picture of your own").first.click()
    path = tmp_path / "house.png"
    model.AliTok.to_pil(examples.scene_pixels("house", 200))[0].save(path)
    before = page.locator(".al-compare .over").first.get_attribute("src")
    page.locator("input[type=file]").first.set_input_files(path)
    page.wait_for_function("old => document.querySelector('.al-compare .over').src !== old", arg=before)
    assert page.locator("#reconstruct input:checked").count() == 0
    page.locator(".al-compare input").first.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert "60%" in page.locator(".al-compare").first.get_attribute("style")
    (tmp_path / "no.png").write_text("no picture")
    before = page.locator(".al-compare .over").first.get_attribute("src")
    page.locator("#reconstruct label").first.click()  # takes the upload away, so the next one must wait for it
    page.wait_for_function("old => document.querySelector('.al-compare .over').src !== old", arg=before)
    page.locator("input[type=file]").first.set_input_files(tmp_path / "no.png")
    wait_for(
        page, "'no.png' is not a picture that can be read: its format is unknown; give a PNG, JPEG or WEBP picture"
    )


def test_the_tour(visit, shoot):
    page, steps = visit(), tour.tour()
    page.get_by_role("button", name="Guided tour").click()
    for number, step in enumerate(steps, 1):
        wait_for(page, f"^Stop {number} of {len(steps)}")
        title = demo_words.TABS[step.tab].title
        assert page.get_by_role("tab", name=title).get_attribute("aria-selected") == "true"
        if step.tab == "poke":
            wait_for(page, {"change": "became 512", "keep": "^13 of 21 tokens"}[step.settings["experiment"]])
        shoot(page, f"tour-{number}")
        page.get_by_role("button", name="Next").click()
    page.locator("#tour").wait_for(state="hidden")
    assert page.locator(".toast-body").count() == 0
