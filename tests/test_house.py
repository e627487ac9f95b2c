"""Files and functions are short, and no module uses private names of another."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "alitok_lite"
FILES = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def nodes():
    for path, text in FILES.items():
        for node in ast.walk(ast.parse(text)):
            yield path, node


def test_files_and_functions_stay_short():
    """A file has up to 400 lines, a function up to 45, its docstring included; the core 1,000 in all."""
    assert {path.name: text.count("\n") for path, text in FILES.items() if text.count("\n") > 400} == {}
    functions = {
        (path.name, node.name): node.end_lineno - node.lineno + 1
        for path, node in nodes()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(functions) > 500 and {name: lines for name, lines in functions.items() if lines > 45} == {}
    assert sum(text.count("\n") for path, text in FILES.items() if path.parent.name == "core") <= 1000


def test_nobody_uses_private_names_of_another_module():
    modules = {path.stem for path in FILES} | {path.parent.name for path in FILES}
    found = []
    for path, node in nodes():
        if isinstance(node, ast.ImportFrom) and node.level:
            found += [(path.name, alias.name) for alias in node.names if private(alias.name)]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            found += [(path.name, node.attr)] if private(node.attr) else []
    assert found == []


def private(name):
    return name.startswith("_") and not name.startswith("__")
