"""The teacher's pack, from the notebooks as they are stored: python notebooks/pack.py FOLDER

slides.html       a lesson of 90 minutes: arrow keys turn pages; print it for a PDF
predictions.html  every prediction prompt, with room to write, to print
quiz.html         five questions for each notebook; quiz-key.html has the answers too
figures/          every figure as a file, named by notebook and number, and what it shows

No page needs the network.
"""

import argparse
import base64
import html
import re
from pathlib import Path

import nbformat
from nbconvert.filters import markdown2html

FOLDER = Path(__file__).parent
READING_ORDER = ("01", "02", "03", "04", "05", "09", "10", "06", "11", "07", "08")
LESSON = {  # notebook -> cells, in order; a code cell stands for its outputs
    "01": ("puzzle-0",),
    "02": (
        "cell-05",
        "cell-06",
        "cell-19",
        "cell-20",
        "control-0",
        "control-1",
        "control-2",
        "control-4",
    ),
    "09": ("09-07", "09-08", "09-10", "09-12", "09-11"),
    "10": ("10-03", "10-06", "10-11", "10-12", "10-13"),
    "06": ("rate-0", "rate-1", "rate-3", "rate-4"),
}
PICTURE = r"!\[([^]]*)\]\((?!https?:)([^)]+)\)"  # of the repository, in Markdown
FEW = 50  # words beside which a picture is large
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 18px/1.45 "DejaVu Sans", Verdana, sans-serif; color: #222 }}
body {{ max-width: 900px; margin: 2em auto }}
img {{ max-width: 100% }}
table {{ border-collapse: collapse }}
td, th {{ border: 1px solid #bbb; padding: .2em .6em }}
.room {{ border-bottom: 1px solid #999; height: 2.2em }}
{style}</style>
{body}
{script}</html>
"""
SLIDES = """@page { size: 1280px 720px; margin: 0 }
body { max-width: none; margin: 0; font-size: 24px }
section { box-sizing: border-box; width: 100vw; height: 100vh; padding: 3vh 5vw; overflow: auto }
section { display: flex; flex-direction: column; justify-content: safe center; break-after: page }
section img { width: 100%; max-height: 90vh; object-fit: contain }
section img.beside { max-height: 37vh }
section img.large { max-height: 62vh }
pre + img { max-height: 66vh }
pre { margin: 0 0 1em }
h2 { margin: 0 0 .4em }
"""
KEYS = """<script>
const steps = {ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1};
addEventListener("keydown", event => {
  if (!steps[event.key]) return;
  event.preventDefault();
  const page = Math.round(scrollY / innerHeight) + steps[event.key];
  scrollTo({top: page * innerHeight});
});
</script>"""


def page(title: str, body: str, style: str = "", script: str = "") -> str:
    return PAGE.format(title=html.escape(title), body=body, style=style, script=script)


def described(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Every figure of a notebook: its PNG in base64, and what it shows."""
    return [
        (output.data["image/png"], cell.metadata.get("alt", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def embedded(text: str) -> str:
    """HTML of Markdown: open answers, and pictures of the repository inside the page.

    A picture is large beside few words.
    """
    words = len(re.sub(PICTURE, "", text).split())

    def picture(match: re.Match) -> str:
        path = FOLDER / match[2]
        kind = path.suffix[1:]
        data = base64.b64encode(path.read_bytes()).decode()
        source = f"data:image/{kind};base64,{data}"
        size = "large" if words <= FEW else "beside"
        return f'<img class="{size}" alt="{html.escape(match[1])}" src="{source}">'

    text = re.sub(r"</?details>|<summary>.*?</summary>", "", text)
    text = re.sub(PICTURE, picture, text)
    text = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", text)  # links lead nowhere on a wall
    text = re.sub(r"\$([^$\n]+)\$", lambda found: found[1].replace("\\log_2", "log₂"), text)
    return re.sub(r"<a class=.anchor-link.*?</a>", "", markdown2html(text))


def apart(text: str) -> list[str]:
    """A text, or what stands before its picture and the rest, if that is too much for one slide."""
    found = re.search(PICTURE, text)
    if found and len(text[: found.start()].split()) > FEW:
        return [text[: found.start()], text[found.start() :]]
    return [text]


def printed(text: str) -> str:
    """What a cell has printed, as large as its longest line and its number of lines allow."""
    lines = text.splitlines()
    size = min(
        24, 1900 / max(map(len, lines)), 430 / len(lines)
    )  # pixels, on a slide of 1280 x 720
    return f'<pre style="font-size: {size:.1f}px">{html.escape(text)}</pre>'


def shown(cell: nbformat.NotebookNode) -> list[str]:
    """The slides of a cell."""
    if cell.cell_type == "markdown":
        text = re.sub(r"\*Figure.*?\*(\n|$)", "", cell.source, flags=re.S)
        parts = re.split(r"\n(?=\*\*(?:Predict|What you should see|Why)\.\*\*|###? )", text)
        parts = [one for part in parts for one in apart(part)]
        nothing = r"<summary>.*?</summary>|</?\w+>|^#+ .*"
        return [embedded(part) for part in parts if re.sub(nothing, "", part).strip()]
    slides = []
    for output in cell.outputs:
        if output.output_type == "stream":
            slides.append(printed(output.text))
        elif "image/png" in output.get("data", {}):
            source = f"data:image/png;base64,{output.data['image/png']}"
            slides.append(f'<img alt="{html.escape(cell.metadata.get("alt", ""))}" src="{source}">')
    return ["\n".join(slides)] if slides else []


def slides(notebooks: dict[str, nbformat.NotebookNode]) -> str:
    """The lesson; KeyError for a cell that is no longer there."""
    sections = [
        "<h1>Tokens that can be predicted</h1>"
        "<p>A lesson on misalignment between a tokenizer and an AR model"
    ]
    for number, ids in LESSON.items():
        cells = {cell.id: cell for cell in notebooks[number].cells}
        for id_ in ids:
            sections += shown(cells[id_])
    return page(
        "A lesson of 90 minutes",
        "".join(f"<section>{one}</section>" for one in sections),
        SLIDES,
        KEYS,
    )


def predictions(notebooks: dict[str, nbformat.NotebookNode]) -> str:
    """Every prediction prompt with two lines to write on."""
    body = "<h1>My predictions</h1><p>Write first, run afterwards. Name: ______________________"
    for number in READING_ORDER:
        prose = [cell.source for cell in notebooks[number].cells if cell.cell_type == "markdown"]
        body += f"<h2>{html.escape(prose[0].splitlines()[0].lstrip('# '))}</h2><ol>"
        for text in prose:
            for prompt in re.findall(r"\*\*Predict\.\*\* (.*?)(?=\n\n[^\d]|\Z)", text, re.S):
                body += f"<li>{embedded(prompt)}<div class=room></div><div class=room></div></li>"
        body += "</ol>"
    return page("Predictions", body)


def quiz(answers: bool) -> str:
    text = (FOLDER / "QUIZ.md").read_text("utf-8")
    return page("Quiz", embedded(text if answers else re.sub(r"\n   \*Answer:\*.*", "", text)))


def main(folder: Path) -> None:
    """Write the pack."""
    notebooks = {
        path.name[:2]: nbformat.read(path, as_version=4)
        for path in sorted(FOLDER.glob("[0-9]*.ipynb"))
    }
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    lines = ["# Figures\n"]
    for number, notebook in notebooks.items():
        for index, (png, alt) in enumerate(described(notebook), 1):
            name = f"{number}-{index:02}.png"
            (figures / name).write_bytes(base64.b64decode(png))
            lines.append(f"- `{name}`: {alt}")
    (figures / "README.md").write_text("\n".join(lines) + "\n", "utf-8")
    pages = {"slides": slides(notebooks), "predictions": predictions(notebooks)}
    pages |= {"quiz": quiz(answers=False), "quiz-key": quiz(answers=True)}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    print(f"{folder}: slides, predictions, quiz with key, {len(lines) - 1} figures")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    main(parser.parse_args().folder)
