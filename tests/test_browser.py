"""The page in a headless browser: every tab, playing, waiting, failing, links, uploading, keyboard, phone, dark mode.

Run with `pytest -m browser`; needs Debian's chromium. With BROWSER=firefox or BROWSER=webkit it is the one that
`playwright install` fetches. Screenshots go to the folder $SCREENSHOTS, if set.
"""

import base64
import io
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from test_app import BASELINE, MAIN, app, checkpoints, client, load_app  # noqa: F401 (fixtures)

from alitok_lite import model
from alitok_lite.core import sampling
from alitok_lite.demo import drawing, examples, models, tour
from alitok_lite.demo import words as demo_words

pytestmark = pytest.mark.browser
LEFT = "AbortError|Connection errored out|^Error$"  # Gradio's words when a page is left that waits for an answer
BROWSER = os.environ.get("BROWSER", "chromium")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OPTIONS += ["--disable-component-update", "--disable-sync"]
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
SIZES |= {"projector": {"width": 1920, "height": 1080}}  # shown in presenter size


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        kind = getattr(driver, BROWSER)
        path = CHROMIUM if BROWSER == "chromium" else kind.executable_path
        if not path or not Path(path).exists():
            pytest.skip(f"no {BROWSER} on this machine")
        browser = kind.launch(executable_path=path, args=OPTIONS if BROWSER == "chromium" else [])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, client, request, tmp_path):
    """Opens the page; afterwards nothing may have been asked of another machine, nor have gone wrong in the page."""
    foreign, wrong, contexts = [], [], []

    def open_page(size: str = "desk", theme: str = "light", refused: str = "no line has this"):
        contexts.append(browser.new_context(viewport=SIZES[size]))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        own = (client.src.rstrip("/"), "data:", "blob:")
        page.on("request", lambda asked: None if asked.url.startswith(own) else foreign.append(asked.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda line: (
                wrong.append(line.text) if line.type == "error" and not re.search(refused, line.text) else None
            ),
        )
        page.goto(f"{client.src}?__theme={theme}")
        page.locator(".al-player[data-ready]").first.wait_for()
        if size == "projector":
            press(page, "Presenter size")
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
    page.get_by_role("tab", name=demo_words.TABS[tab].title).click()


def wait_for(page, text: str) -> None:
    page.get_by_text(re.compile(text)).locator("visible=true").first.wait_for()


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).locator("visible=true").first.click()


ANSWERED = {"edit": "^The likeliest codes", "reconstruct": "became 21 tokens", "look": "^Image token"}
ANSWERED |= {"poke": "became 512", "predict": "^One scene"}


@pytest.fixture(scope="module")
def serious():
    """What axe finds serious in a page: contrast, names, roles, headings, as far as a program can judge them."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def run(page) -> list[str]:
        page.wait_for_timeout(300)
        wrong = [each for each in axe.run(page).response["violations"] if each["impact"] in ("serious", "critical")]
        return [
            f"{each['id']} {node['target']} {node['failureSummary'][:300]}" for each in wrong for node in each["nodes"]
        ]

    return run


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_tab(visit, shoot, serious, size, theme):
    """Each has its answer, fits the width, hides no tab, and has nothing serious for axe."""
    page = visit(size, theme)
    wait_for(page, "^token 1[0-9] of 16")  # the stored drawing plays by itself
    for tab in demo_words.TABS:
        box = page.locator(f"#tab-{tab}-button").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= SIZES[size]["width"], tab
        open_tab(page, tab)
        if tab == "draw":
            wait_for(page, "^Examples|^Drawn earlier")
            press(page, "Draw")
            wait_for(page, "^Drawn in .* seed")
            wait_for(page, r"^token 1\d of 21")
        elif tab in ANSWERED:
            wait_for(page, ANSWERED[tab])
        shoot(page, f"{size}-{theme}-{tab}")
        assert serious(page) == [], tab
        unnamed = page.locator("img:visible:not([alt])").count() + page.locator("[role=img]:not([aria-label])").count()
        assert unnamed == 0, tab


def test_on_a_phone_button_and_choices_are_one_press_away(visit):
    """The result is in view, and so is the button; the bar leads to the choices and back."""
    page = visit("phone")
    for tab, button in (("tell", "Another picture"), ("draw", "Draw"), ("edit", "Complete the lower half")):
        open_tab(page, tab)
        page.wait_for_timeout(300)
        box = page.get_by_role("button", name=button, exact=True).bounding_box()
        assert box["y"] > 700 and box["y"] + box["height"] <= 844, tab
        assert page.locator(".al-answer:visible").first.bounding_box()["y"] < 450, tab
    for tab in ("draw", "look"):
        open_tab(page, tab)
        page.wait_for_timeout(300)
        press(page, "Choose ↓")
        page.locator("input[type=radio]:checked").locator("visible=true").first.wait_for()
        page.wait_for_function(
            "[...document.querySelectorAll('.al-controls-column')].some(each => each.offsetParent"
            " && each.getBoundingClientRect().top < 400)"
        )
        press(page, "Back to the result ↑")
        page.wait_for_function("scrollY < 300")


BOARDS = """
() => [...document.querySelectorAll('.al-row, .al-board.overlay')].filter(each => each.offsetParent).flatMap(each => {
    const {width, height} = (each.querySelector(':scope > img') || each).getBoundingClientRect();
    if (!each.matches('.al-row')) return Math.abs(width - height) < 2 ? [] : [`a picture of ${width} x ${height}`];
    const parts = [...each.children].flatMap(figure => [...figure.children]);
    const bottom = part => part.getBoundingClientRect().bottom;
    const free = bottom(each) - Math.max(...parts.map(bottom));
    const hidden = parts.some(part => part.scrollHeight > part.clientHeight + 4);
    return (free < 30 ? [] : [`${free} empty pixels below`]).concat(hidden ? ['something hidden'] : []);
})
"""


@pytest.mark.parametrize("size", ["desk", "phone"])
def test_boards_are_square_and_rows_have_no_holes(visit, size):
    """Browsers differ in how high they make what they cannot yet measure."""
    page = visit(size)
    for tab, words in ANSWERED.items():
        open_tab(page, tab)
        wait_for(page, words)
        page.wait_for_timeout(300)
        assert page.evaluate(BOARDS) == [], tab


def test_buttons_beneath_a_drawing_wait_for_one(visit):
    """Before it, and after another model was chosen, there is nothing to save or edit."""
    page = visit()
    open_tab(page, "draw")
    buttons = [
        page.get_by_role("button", name=name, exact=True) for name in ("PNG", "GIF", "WebP", "Edit this drawing")
    ]
    assert not any(button.is_enabled() for button in buttons)
    press(page, "Draw")
    wait_for(page, "^Drawn in")
    page.wait_for_function("![...document.querySelectorAll('.al-files button')].some(each => each.disabled)")
    page.get_by_label("Model", exact=True).locator("visible=true").first.click()
    page.get_by_role("option", name=BASELINE).click()
    wait_for(page, "^Examples of painted scenes, not drawn by this model")
    page.wait_for_function("document.querySelectorAll('.al-files button[disabled]').length >= 4")
    assert not any(button.is_enabled() for button in buttons)
    press(page, "Draw")
    wait_for(page, "^Drawn in")
    page.wait_for_function("![...document.querySelectorAll('.al-files button')].some(each => each.disabled)")


def test_stop_ends_a_drawing_and_nothing_else(visit):
    """What is in view then is no whole drawing: there is nothing to save."""
    page = visit()
    open_tab(page, "draw")
    files = page.get_by_role("button", name="Copy link", exact=True)
    page.evaluate("alitok.stopped('draw')")
    assert said(page, "draw") == "" and files.is_visible()
    with models.running():
        press(page, "Draw")
        page.locator(".al-waiting").wait_for()
        page.evaluate("alitok.stopped('draw')")
        assert said(page, "draw") == "Stopped."
        files.wait_for(state="hidden")
    wait_for(page, "^Drawn in")
    press(page, "Draw")
    files.wait_for()


# ---------------------------------------------------------------- what is played


def frame(page) -> int:
    return int(page.locator(".al-player:visible .al-scrub").input_value())


def test_the_first_screen_moves_by_itself(visit):
    page = visit()
    first = frame(page)
    page.wait_for_function("old => document.querySelector('.al-scrub').value > old", arg=first)
    page.locator(".al-player [data-do=play]").click()
    stopped = frame(page)
    page.wait_for_timeout(1200)
    assert frame(page) == stopped and page.locator(".al-player [data-do=play]").inner_text() == "Play"
    page.locator(".al-scrub").fill("16")
    assert page.locator(".al-stage i.moved").count() == 15
    assert page.locator(".al-side").nth(0).locator(".al-counters").inner_text().startswith("15")
    assert page.locator(".al-side").nth(1).locator(".al-counters").inner_text().startswith("0")
    page.locator(".al-player [data-do=back]").click()
    assert frame(page) == 15 and page.locator(".al-side").nth(1).locator("i.untold").count() == 1
    assert "after 15 tokens" in page.locator("canvas").first.get_attribute("aria-label")


def test_a_drawing_is_played_in_the_page(visit):
    """Play, pause, step, search, replay; and what is on the canvas is what the file holds."""
    page = visit()
    open_tab(page, "draw")
    press(page, "Draw")
    player = page.locator("#drawing .al-player[data-ready]")
    player.wait_for()
    player.locator("[data-do=play]").click()
    assert frame(page) < 20
    player.locator("[data-do=start]").click()
    assert frame(page) == 0 and page.locator("#drawing .al-board b.later").count() == 20
    player.locator("[data-do=on]").click()
    player.locator("[data-do=on]").click()
    assert frame(page) == 2 and page.locator("#drawing .al-board b.later").count() == 18
    player.locator("select").select_option("4")
    player.locator("[data-do=again]").click()
    wait_for(page, "^token 21 of 21")
    page.wait_for_function("document.querySelector('#tab-draw .al-heard').textContent.startsWith('Finished:')")
    seed = int(re.search("seed ([0-9]+)", page.locator("#status").inner_text())[1])
    *_, wanted = drawing.draw(MAIN, "sea", seed)
    shown = page.evaluate("document.querySelector('#drawing canvas').toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(shown.split(",")[1]))) as canvas:
        assert canvas.convert("RGB").tobytes() == wanted.pictures[0].tobytes()
    with page.expect_download() as saved:
        page.locator("#png").click()
    with Image.open(saved.value.path()) as file:
        assert file.tobytes() == drawing.contact_sheet(wanted.pictures).tobytes()


@pytest.mark.parametrize("kind", ["GIF", "WebP"])
def test_a_drawing_is_saved_as_an_animation(visit, kind):
    page = visit()
    open_tab(page, "draw")
    press(page, "Draw")
    wait_for(page, "^Drawn in")
    with page.expect_download() as saved:
        press(page, kind)
    with Image.open(saved.value.path()) as file:
        assert (file.format, file.n_frames) == (kind.upper(), 21)


def test_another_model_ends_a_drawing(visit, monkeypatch):
    """What is drawn by one model does not go on under the name of another."""
    page, real = visit(), sampling.draw_codes
    open_tab(page, "draw")
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "draw_codes", lambda *given: time.sleep(0.4) or real(*given))
        press(page, "Draw")
        wait_for(page, "^Token [0-9]+ of")
        page.get_by_label("Model", exact=True).locator("visible=true").first.click()
        page.get_by_role("option", name=BASELINE).click()
        wait_for(page, "^Examples of painted scenes, not drawn by this model")
        page.wait_for_timeout(4000)
    assert page.locator("#status").inner_text().startswith("Examples of painted scenes")
    assert page.locator("#drawing canvas").count() == 0
    press(page, "Draw")
    wait_for(page, "^token [0-9]+ of 16")


# ---------------------------------------------------------------- a press and its answer


def said(page, tab: str) -> str:
    return page.locator(f"#say-{tab}").inner_text()


def test_a_press_is_answered_at_once_in_its_place(visit):
    """While the models are busy: the line is there with the next frame of the screen, and says how many come first."""
    pages = [visit() for _ in range(3)]  # two are served at once
    for page in pages:
        open_tab(page, "draw")
    with models.running():
        frames = pages[0].evaluate(
            """async () => {
                const draw = [...document.querySelectorAll('button.primary')].find(each => each.innerText === 'Draw');
                let frames = 0;
                draw.click();
                while (!document.getElementById('say-draw').textContent && frames < 60) {
                    frames += 1;
                    await new Promise(requestAnimationFrame);
                }
                return frames;
            }"""
        )
        assert frames <= 3 and said(pages[0], "draw")  # in frames, because no clock is trusted
        assert pages[0].locator(".al-waiting #drawing").count() == 1
        for page in pages[1:]:
            press(page, "Draw")
        wait_for(pages[2], "^1 press comes first")
    for page in pages:
        wait_for(page, "^Drawn in")
        page.wait_for_function("!document.querySelector('.al-waiting')")
        assert page.locator(".toast-body").count() == 0


def test_a_failure_is_told_in_its_place_and_can_be_tried_again(visit, monkeypatch):
    page = visit()
    open_tab(page, "draw")
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "MAX_COUNT", 0)
        press(page, "Draw")
        wait_for(page, "^How many is 1; it must be")
    assert page.locator(".al-waiting").count() == 0
    page.locator("#say-draw").get_by_role("button", name="Try again").click()
    wait_for(page, "^Drawn in")
    assert page.locator("#say-draw.failed").count() == 0
    before = page.locator("#status").inner_text()
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "MAX_COUNT", 0)
        press(page, "GIF")
        wait_for(page, "^How many is 1; it must be")
    with page.expect_download():  # what failed is tried again, and nothing else
        page.locator("#say-draw").get_by_role("button", name="Try again").click()
    assert page.locator("#status").inner_text() == before


def test_a_full_queue_is_told_in_words(visit, app, monkeypatch):
    page = visit(refused="503")
    monkeypatch.setattr(app.demo._queue, "max_size", 0)
    open_tab(page, "draw")
    press(page, "Draw")
    wait_for(page, "^Too many people are asking at once")
    monkeypatch.undo()
    page.locator("#say-draw").get_by_role("button", name="Try again").click()
    wait_for(page, "^Drawn in")


def test_a_server_that_is_gone_is_told_where_one_waits(visit, monkeypatch):
    page, real = visit(refused=f"{LEFT}|ERR_INTERNET_DISCONNECTED|Failed to fetch"), sampling.draw_codes
    open_tab(page, "draw")
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "draw_codes", lambda *given: time.sleep(0.3) or real(*given))
        press(page, "Draw")
        wait_for(page, "^Token [0-9]+ of")
        page.context.set_offline(True)
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('div'), {className: 'toast-body error',"
            " textContent: 'Connection to the server was lost. Attempting reconnection...'}))"
        )
        wait_for(page, "^The server does not answer any more. This page goes on by itself")
    assert page.locator(".al-waiting").count() == 0
    page.context.set_offline(False)
    page.reload()
    press(page, "Draw")
    wait_for(page, "^Drawn in")


@pytest.mark.parametrize(
    "query, words",
    [
        ("tab=sing", "^This link asks for a tab 'sing'"),
        ("tab=look&part=brain&layer=99&token=-5", "^This link asks for part=brain, layer=99, token=-5, which"),
        ("tab=draw&seed=-1", "^Seed is '-1'; it must be a whole number"),
        ("tab=edit&ids=1+2+3", "^This link asks for ids=1 2 3, which"),
    ],
)
def test_a_link_with_nonsense_is_answered_in_a_sentence(visit, query, words):
    page = visit(refused=LEFT)
    page.goto(page.url.split("?")[0] + f"?{query}")
    wait_for(page, words)
    page.wait_for_function("!document.querySelector('.al-waiting, .toast-body')")
    open_tab(page, "reconstruct")
    wait_for(page, ANSWERED["reconstruct"])


# ---------------------------------------------------------------- links


def test_what_is_set_is_in_the_address_and_back_works(visit):
    page = visit(refused=LEFT)
    open_tab(page, "look")
    wait_for(page, "^Image token")
    page.locator(".al-pick:visible [data-token='7']").click()
    wait_for(page, r"^Image token \(0, 2\)")
    page.wait_for_function("new URLSearchParams(location.search).get('token') === '7'")
    address = page.url
    open_tab(page, "poke")
    page.wait_for_function("new URLSearchParams(location.search).get('tab') === 'poke'")
    page.go_back()
    page.wait_for_function("new URLSearchParams(location.search).get('tab') === 'look'")
    assert page.get_by_role("tab", name="Look inside").get_attribute("aria-selected") == "true"
    page.goto(address)
    wait_for(page, r"^Image token \(0, 2\)")


def at(page, **wanted: str) -> None:
    """Waits until the address says so; an empty value stands for a name that is not in it."""
    page.wait_for_function(
        "wanted => {const found = new URLSearchParams(location.search);"
        " return Object.entries(wanted).every(([name, value]) => (found.get(name) || '') === value)}",
        arg=wanted,
    )


def test_back_and_forward_restore_the_settings_too(visit):
    """Model, scene and token of Look inside; class and seed of Draw; each step at least a second after the last."""
    page = visit(refused=LEFT)
    open_tab(page, "look")
    wait_for(page, "^Image token")
    steps = [("7", r"^Image token \(0, 2\)"), ("12", r"^Image token \(1, 3\)")]
    for number, words in steps:
        page.wait_for_timeout(1100)
        page.locator(f".al-pick:visible [data-token='{number}']").click()
        wait_for(page, words)
        at(page, tab="look", token=number)
    page.wait_for_timeout(1100)
    page.locator("#look input").nth(2).check(force=True)
    at(page, scene="house")
    page.wait_for_timeout(1100)
    open_tab(page, "draw")
    at(page, tab="draw")
    page.wait_for_timeout(1100)
    page.locator("#kinds input").nth(7).check(force=True)
    at(page, **{"class": "fish"})
    page.go_back()
    at(page, tab="draw", **{"class": "sea"})
    page.wait_for_function("document.querySelector('#kinds input:checked').value === 'sea'")
    page.go_back()
    at(page, tab="look", scene="house", token="12")
    assert page.get_by_role("tab", name="Look inside").get_attribute("aria-selected") == "true"
    page.go_back()
    at(page, scene="lighthouse", token="12")
    page.wait_for_function("document.querySelector('#look input:checked').value === 'lighthouse'")
    page.go_back()
    wait_for(page, steps[0][1])
    at(page, scene="lighthouse", token="7")
    page.go_forward()
    wait_for(page, steps[1][1])
    for _ in range(2):  # what Back set is no entry of its own
        page.go_forward()
    at(page, tab="draw")
    assert page.get_by_role("tab", name="Draw").get_attribute("aria-selected") == "true"


def test_back_undoes_an_edit(visit):
    page = visit(refused=LEFT)
    open_tab(page, "edit")
    wait_for(page, "^The likeliest codes")
    ids = "document.querySelector('#edit-ids textarea, #edit-ids input').value"
    page.wait_for_function("new URLSearchParams(location.search).get('ids')")
    before = page.evaluate(ids)
    page.wait_for_timeout(1100)
    page.locator("[data-code]:visible").nth(2).click()
    wait_for(page, "became code")
    page.wait_for_function("old => new URLSearchParams(location.search).get('ids') !== old", arg=before)
    assert page.evaluate(ids) != before
    page.go_back()
    page.wait_for_function(f"old => {ids} === old", arg=before)
    wait_for(page, "^The likeliest codes")


def test_a_link_draws_what_it_says_and_the_strip_survives(visit):
    page = visit(refused=LEFT)
    page.goto(page.url.split("?")[0] + f"?tab=draw&model={MAIN}&class=fish&seed=12")
    wait_for(page, "^Drawn in .* seed 12")
    assert page.locator("#kinds input:checked").get_attribute("value") == "fish"
    page.locator("#al-strip a").wait_for()
    page.reload()
    wait_for(page, "^Drawn in .* seed 12")
    assert page.locator("#al-strip a").count() == 1 and "seed=12" in page.locator("#al-strip a").get_attribute("href")
    page.goto(page.url.split("?")[0] + "?tab=draw&class=dragon")
    wait_for(page, "^This link asks for class=dragon, which this page does not have")


# ---------------------------------------------------------------- edit


def test_a_drawing_is_edited(visit):
    page = visit()
    open_tab(page, "draw")
    page.locator("#kinds input").nth(7).click()
    press(page, "Draw")
    wait_for(page, "^Drawn in")
    press(page, "Edit this drawing")
    wait_for(page, "^The likeliest codes")
    ids = page.evaluate("document.querySelector('#drawn-ids textarea, #drawn-ids input').value")
    assert page.evaluate("document.querySelector('#edit-ids textarea, #edit-ids input').value") == ids
    page.locator(".al-pick:visible [data-token='12']").click()
    wait_for(page, r"^The likeliest codes of image token \(1, 3\)")
    page.locator("[data-code]:visible").nth(2).click()
    wait_for(page, r"^Image token \(1, 3\) became code")
    after = page.evaluate("document.querySelector('#edit-ids textarea, #edit-ids input').value")
    assert after.split()[:12] == ids.split()[:12] and after != ids
    press(page, "Complete the lower half")
    wait_for(page, "^The first 13 of 21 tokens were kept")


# ---------------------------------------------------------------- the keyboard


def test_drawing_with_the_keyboard_alone(visit):
    page = visit()
    open_tab(page, "draw")
    page.locator("#kinds input").first.focus()
    for _ in range(7):
        page.keyboard.press("ArrowRight")
    assert page.locator("#kinds input:checked").get_attribute("value") == "fish"
    stops = []
    while "Draw" not in stops and len(stops) < 6:  # the classes are one stop
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.innerText"))
    assert stops[-1] == "Draw", stops
    page.keyboard.press("Enter")
    wait_for(page, "^Drawn in")
    wait_for(page, "^Fish")


def stops(page, tab: str) -> list[str]:
    """What the Tab key reaches from the row of tabs to the foot of the page: kind and name of each."""
    page.locator(f"#tab-{tab}-button").focus()
    found = []
    while len(found) < 80:
        page.keyboard.press("Tab")
        kind, name, inside = page.evaluate(
            "(() => {const at = document.activeElement; return [at.getAttribute('role') || at.type || at.tagName,"
            " at.ariaLabel || at.innerText || at.name, !!at.closest('[role=tabpanel], [role=tab]')]})()"
        )
        if not inside:
            break
        found.append(f"{kind} {name}")
    return found


def test_the_keyboard_reaches_everything_and_a_group_is_one_stop(visit):
    """Arrow keys open tabs. The end of each press is said to a screen reader, and boards have values."""
    page = visit()
    page.locator("#tab-tell-button").focus()
    for number, tab in enumerate(demo_words.TABS):
        if number:
            page.keyboard.press("ArrowRight")
        assert page.locator(f"#tab-{tab}-button").get_attribute("aria-selected") == "true"
        if tab in ANSWERED:
            wait_for(page, ANSWERED[tab])
            page.wait_for_function(
                "tab => alitok.panel(tab).querySelector('.al-heard').textContent.length > 10", arg=tab
            )
            for board in page.locator(".al-board:visible:not(.al-pick *)").all():
                assert re.search(r": (.*[0-9].*, ){3}", board.get_attribute("aria-label")), tab
        found = stops(page, tab)
        assert not any(stop.startswith("tab ") for stop in found), found
        kinds = [stop for stop in found if stop.startswith("radio")]
        assert len(kinds) == (2 if tab == "poke" else 1), found
        assert any("The code behind this" in stop for stop in found), found
        page.locator(f"#tab-{tab}-button").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tab-tell-button").get_attribute("aria-selected") == "true"


def test_presenter_size_fills_the_screen(visit):
    page = visit()
    page.set_viewport_size({"width": 1920, "height": 1080})
    press(page, "Presenter size")
    page.wait_for_timeout(300)
    box = page.locator(".al-stage").first.bounding_box()
    assert box["width"] > 450 and page.locator("#tell").bounding_box()["y"] < 600
    assert page.get_by_role("button", name="Another picture").bounding_box()["y"] < 1000
    assert page.locator(".al-controls:visible").bounding_box()["y"] < 1040
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.al-about')).fontSize)") >= 20
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    press(page, "Presenter size")
    page.wait_for_function("parseFloat(getComputedStyle(document.querySelector('.al-about')).fontSize) < 20")


def test_looking_with_mouse_and_keyboard(visit):
    page = visit()
    open_tab(page, "look")
    page.locator(".al-pick:visible [data-token='7']").click()
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
    open_tab(page, "draw")
    page.get_by_text("Seed and settings").click()
    page.get_by_label("Seed", exact=True).locator("visible=true").fill("99")
    page.get_by_role("button", name="Guided tour").click()
    for number, step in enumerate(steps, 1):
        wait_for(page, f"^Stop {number} of {len(steps)}")
        title = demo_words.TABS[step.tab].title
        page.wait_for_function(
            "title => document.querySelector('[role=tab][aria-selected=true]').innerText === title", arg=title
        )
        if step.tab == "draw":  # by itself
            wait_for(page, f"^Drawn in .* mean entropy {'0.0' if step.settings['temperature'] == 0 else '[1-9]'}")
        if step.tab == "poke":
            wait_for(page, {"change": "became 512", "keep": "^13 of 21 tokens"}[step.settings["experiment"]])
        shoot(page, f"tour-{number}")
        if number == 1:  # nothing comes before it
            press(page, "Back")
            page.wait_for_timeout(500)
            assert page.locator("#tour").inner_text().startswith("Stop 1 of")
        page.get_by_role("button", name="Next").click()
    page.locator("#tour").wait_for(state="hidden")
    assert page.locator(".toast-body").count() == 0
    open_tab(page, "draw")  # what the tour set is as it was before
    assert page.get_by_label("Seed", exact=True).locator("visible=true").input_value() == "99"
    press(page, "Draw")
    wait_for(page, "^Drawn in .* seed 99")
    assert "mean entropy 0.0" not in page.locator("#status").inner_text()
