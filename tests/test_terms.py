"""One word for one thing, the literature's: in the course's prose, code, comments, printed lines and figures."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "notebooks" / f"{name}.md" for name in ("TEACHERS", "QUIZ", "OFFICIAL")]
CODE = sorted(file for folder in ("learn", "viz") for file in (ROOT / "alitok_lite" / folder).glob("*.py"))

OLD_WORDS = {  # what no paper says -> what to say
    r"hears?|heard|hearing|listen(s|ed|ing)?": "depends on, attends to",
    r"cheap(er|est|ly)?|dear(er|est)?|expensive": "a lower loss, a higher loss",
    r"price[ds]?|paid|pays": "loss, nats per token",
    r"fore(see|tell|seen|told)\w*": "predict",
    r"(by|from) heart": "memorised",
    r"(first|last|next|earlier|later|causal|conventional|aligned|true|image|prefix|merged|\d+) words?": "token",
    r"per word|words of the codebook": "token, code",
    r"vocabular\w+": "codebook usage",
    r"sentences? of (ids|tokens|words|codes)|(picture|image)'s sentences?": "sequence",
    r"(different|whole|as a|in a|per|finished) sentences?:?(?= \d|, | has| is| read|$)": "sequence",
    r"upkeep|reviv(al|ed)": "online clustered codebook (CVQ)",
    r"(entropy|unigram) budget": "entropy",
    r"looks? at (each other|nothing|other (tokens|queries|positions)|later|earlier|every)": "attend to",
    r"who looks \(|looking token|may look at (whom|which)": "attend to",
    r"(token|quer(y|ie)|head)s? looks? at": "attend to",
    r"(?<!dB )gain \d|gain \(nats|nats of gain": "redundancy",
    r"asked for|odd run|sisters": "runs, seeds",
    r"dull(est)?|hotter|colder": "filling code, temperature",
}
NAMES = {"word", "words", "sentence", "sentences", "heard", "hears", "upkeep", "price", "paid", "dear", "cheaper"}
NAMES |= {"cold", "hot", "dull", "vocabulary", "cheap"}


def found_in(text):
    """Old words in a text, in which names_of_code are words; addresses and a title are left out."""
    text = re.sub(r"\]\([^)]*\)", "]", text).replace("Who may look at whom", "").replace("_", " ")
    for old, use in OLD_WORDS.items():
        for match in re.finditer(rf"\b({old})\b", text, re.I | re.M):
            yield f"{text[max(match.start() - 40, 0) : match.end() + 40].strip()!r}: say {use!r}"


def names_in(source):
    """Names that code gives to things: variables, arguments, functions, keywords."""
    nodes = (node for node in ast.walk(ast.parse(source)) if not isinstance(node, ast.keyword))  # a library's names
    for node in nodes:
        for name in (getattr(node, key, None) for key in ("id", "arg", "name")):
            if isinstance(name, str):
                yield from NAMES & set(name.lower().split("_"))


def texts_of(cell):
    """A cell's own text and what it printed."""
    yield "".join(cell["source"])
    for output in cell.get("outputs", []):
        yield "".join(output.get("text", []))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks(path):
    found = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        found += [f"{cell['id']} {one}" for text in texts_of(cell) for one in found_in(text)]
        if cell["cell_type"] == "code":
            found += [f"{cell['id']} the name {name}" for name in names_in("".join(cell["source"]))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", CODE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_code_of_exercises_and_figures(path):
    source = path.read_text("utf-8")
    found = [*found_in(source), *(f"the name {name}" for name in names_in(source))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages(path):
    assert not [*found_in(path.read_text("utf-8"))]


@pytest.mark.parametrize(
    "text",
    [
        "The causal words have a loss of 4.1 nats per word.",
        "tokens_heard(row, column)",
        "How many tokens may each patch hear?",
        "the AR model pays 4.72 nats",
        "nats saved per word by reading",
        "as a sentence, 21 tokens",
        "every query looks at each other",
        "gain 1.78 and 2.14",
        "How rich does the vocabulary look?",
    ],
)
def test_old_words_are_noticed(text):
    assert [*found_in(text)]


def test_old_names_are_noticed():
    assert sorted(names_in("def price(my_words):\n    sentence = 1")) == ["price", "sentence", "words"]
