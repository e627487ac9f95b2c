"""Writes DEVIATIONS.md from the tags in the code that say where it differs from paper or official code.

Run it after changing such a tag: python .ci/deviations.py
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """# Where this package differs from the paper and its code

Made by `python .ci/deviations.py` from the tags `# differs:` in the code. Each tag stands above the line that it is
about.

| file | line of code | how it differs |
|---|---|---|
"""


def page() -> str:
    """The whole page: a row for each tag, by file."""
    rows = []
    for path in sorted((ROOT / "alitok_lite").rglob("*.py")):
        name = path.relative_to(ROOT / "alitok_lite").as_posix()
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if found := re.search(r"# differs: (.+)", line):
                code = line[: found.start()].strip() or next(row for row in lines[number + 1 :] if row.strip()).strip()
                code = re.sub(r"\s+# .*", "", code).replace("|", "\\|")
                rows.append(f"| [{name}](alitok_lite/{name}) | `{code}` | {found[1]} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    (ROOT / "DEVIATIONS.md").write_text(page(), encoding="utf-8")
