"""The repository's public address, written into every file that shows it: one command, once there is an address.

Until then all these files work without one. `Repository` in pyproject.toml is where other code may look it up.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

from ..files import write_atomically

ROOT = Path(__file__).resolve().parents[2]  # of the clone
HOST = "https://github.com"
NAME = r"[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+"
BADGES = re.compile(r"<!-- published: badges -->(?:\n\n.*?<!-- end of badges -->)?", re.S)
CLONE = re.compile(r"(?:git clone \S+ && cd \S+\n)?(?=python -m venv \.venv && source)")
URLS = re.compile(r"^(?:Repository|Issues|Changelog) = .*\n", re.M)


def _readme(text: str, name: str) -> str:
    here, colab = f"{HOST}/{name}", f"https://colab.research.google.com/github/{name}"
    badges = (
        f"[![tests]({here}/actions/workflows/test.yml/badge.svg)]({here}/actions/workflows/test.yml)\n"
        f"[![Open the notebooks in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})\n"
    )
    text = BADGES.sub(f"<!-- published: badges -->\n\n{badges}<!-- end of badges -->", text)
    return CLONE.sub(f"git clone {here} && cd {name.split('/')[1]}\n", text, count=1)


def _pyproject(text: str, name: str) -> str:
    here = f"{HOST}/{name}"
    lines = f'Repository = "{here}"\nIssues = "{here}/issues"\nChangelog = "{here}/blob/main/CHANGELOG.md"\n'
    return URLS.sub("", text).replace("[project.urls]\n", f"[project.urls]\n{lines}")


def _citation(text: str, name: str) -> str:
    text = re.sub(r"^repository-code: .*\n", "", text, flags=re.M)
    return re.sub(r"^(license: .*\n)", rf'\1repository-code: "{HOST}/{name}"\n', text, count=1, flags=re.M)


def _notebook(text: str, name: str) -> str:
    """Nothing but the line changes, so that outputs and layout of the file stay as they are."""
    line = json.dumps(f'ADDRESS = "{HOST}/{name}"')[1:-1]
    return re.sub(r'ADDRESS = \\"[^"]*\\"', lambda _: line, text, count=1)


def publish(repository: str, root: Path = ROOT) -> list[str]:
    """Write the address of the repository owner/name on GitHub into README, notebooks, metadata and citation.

    Returns the names of the files that changed, and prints them. Another call replaces the address. ValueError, before
    anything is written, for a wrong name, or for a file without the place where its address belongs.
    """
    if not re.fullmatch(NAME, repository):
        raise ValueError(f"the repository is {repository!r}; it must be OWNER/NAME as on GitHub")
    edits: dict[str, Callable[[str, str], str]] = {
        "README.md": _readme,
        "pyproject.toml": _pyproject,
        "CITATION.cff": _citation,
    }
    edits |= {path.relative_to(root).as_posix(): _notebook for path in sorted((root / "notebooks").glob("*.ipynb"))}
    changed = {}
    for file, edit in edits.items():
        if not (root / file).is_file():
            raise ValueError(f"there is no {file} in {str(root)!r}: publish from a clone of the repository")
        before = (root / file).read_text(encoding="utf-8")
        after = edit(before, repository)
        if f"{HOST}/{repository}" not in after:
            raise ValueError(f"{file} has no place for the address: it was changed by hand")
        if after != before:
            changed[file] = after
    for file, text in changed.items():
        write_atomically(root / file, text.encode())
        print(f"{file}: {HOST}/{repository}")
    return list(changed)
