"""The `Shape:` lines of the docstrings are true: each is run."""

import ast
import importlib
import inspect
import re

import pytest
import torch
from conftest import small_ar, small_model, small_tokenizer
from torch import Tensor, nn

CORE = ("layers", "quantizer", "tokenizer", "ar", "losses")
MORE = (*CORE, "sampling", "metrics", "probe", "repaint", "scan")
FOLDERS = {"metrics": "measure", "probe": "measure", "repaint": "measure", "scan": "data"}  # the others are in core
MODULES = {name: importlib.import_module(f"alitok_lite.{FOLDERS.get(name, 'core')}.{name}") for name in MORE}
CONFIG = small_tokenizer()
AR_CONFIG = small_ar(CONFIG, width=8, classes=5)
MODEL = small_model()
GIVEN = {"model": MODEL, "tokenizer": MODEL.tokenizer, "ids": torch.randint(0, 16, (2, 7)), "abs": abs}


def shape_lines():
    for module in MODULES.values():
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__:
                continue
            yield from _lines(module, name, None, thing)
            if inspect.isclass(thing):
                for method, function in vars(thing).items():
                    if inspect.isfunction(function):
                        yield from _lines(module, f"{name}.{method}", thing, function)


def _lines(module, name, owner, thing):
    for text in re.findall(r"^\s*Shape: (.+)$", thing.__doc__ or "", re.M):
        yield pytest.param(module, owner, text, id=name)


def tensor(shape, parameter):
    if parameter in ("ids", "labels"):
        return torch.randint(0, 3, shape)
    return torch.rand(shape)


def call(function, node):
    """Call a function with the arguments of an AST call: tuples of numbers are shapes of tensors, names are GIVEN."""
    names = list(inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters)
    values = []
    for name, argument in zip(names, node.args, strict=False):
        value = GIVEN[argument.id] if isinstance(argument, ast.Name) else ast.literal_eval(argument)
        values.append(tensor(value, name) if isinstance(value, tuple) else value)
    return function(*values)


def build(module, text):
    """The module that an expression such as `Attention(16, 4)` makes."""
    config = AR_CONFIG if module.__name__.endswith(".ar") else CONFIG
    return eval(text, {**vars(module), "config": config, "nn": nn, **vars(MODULES["layers"])}).eval()


def result_shapes(result):
    if isinstance(result, Tensor):
        return [tuple(result.shape)]
    return [tuple(part.shape) for part in result]


def run(module, owner, text):
    left, right = text.split(" -> ")
    node = ast.parse(left, mode="eval").body
    if isinstance(node.func, ast.Call):  # Attention(16, 4)((2, 5, 16))
        function = build(module, ast.unparse(node.func))
    elif owner is not None:  # a method: of the instance that the class's own line makes
        line = re.search(r"Shape: (.+) -> ", owner.__doc__).group(1)
        function = getattr(build(module, ast.unparse(ast.parse(line, mode="eval").body.func)), node.func.id)
    else:
        function = getattr(module, node.func.id)
    expected = ast.literal_eval(f"[{right}]")
    return result_shapes(call(function, node)), expected


@pytest.mark.parametrize(("module", "owner", "text"), list(shape_lines()))
def test_shape_line(module, owner, text):
    found, expected = run(module, owner, text)
    assert found == expected


def test_every_core_layer_has_a_shape_line():
    for name in CORE:
        for thing in vars(MODULES[name]).values():
            if inspect.isclass(thing) and issubclass(thing, nn.Module) and thing.__module__ == MODULES[name].__name__:
                assert "Shape: " in thing.__doc__, thing


def test_a_wrong_line_is_noticed():
    found, expected = run(MODULES["layers"], None, "causal_mask(3, 5) -> (3, 6)")
    assert found != expected
