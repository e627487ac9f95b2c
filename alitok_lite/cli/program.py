"""The commands in their groups, what is said about them, and how one is run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import NamedTuple, NoReturn

from .. import __version__
from ..console import lenient_console
from ..interrupt import imported
from . import options


class Command(NamedTuple):
    """A command. `home` is the file beside this one with a function of its name; its options are in options.py."""

    name: str
    home: str
    text: str
    example: str  # what follows the name


OFFICIAL = "official/alitok-b"
GROUPS = {
    "Use a model": [
        Command("sample", "use", "Sample pictures of classes.", "--classes lighthouse,house --num 8 --out samples.png"),
        Command("reconstruct", "use", "Encode a picture and decode its tokens.", "picture.png --out pair.png"),
        Command("app", "page", "Serve the page and print its address.", "--port 7860"),
    ],
    "Train": [
        Command(
            "train",
            "training",
            "Train a tokenizer (stage 1), a decoder over its tokens (stage 2), or an AR model.",
            "tokenizer --preset tiny --data pictures --out runs/own",
        ),
        Command(
            "ablate",
            "training",
            "Train tokenizers that differ in one thing, and compare them.",
            "--preset tiny --rows A,B --out runs/study",
        ),
        Command(
            "match",
            "training",
            "Compare tokenizers at equal bits: train them and their AR models, and print the verdict.",
            "--out runs/match --rows A256,A1024,B1024 --seeds 0,1,2",
        ),
        Command(
            "cost",
            "training",
            "Time and memory of a training step, with random pictures.",
            "tokenizer --preset scenes --batch 64",
        ),
    ],
    "Measure": [
        Command(
            "evaluate",
            "measuring",
            "Measure a checkpoint on unseen pictures, with a fresh judge.",
            "--model scenes --pictures 500 --json metrics.json",
        ),
        Command(
            "bench",
            "measuring",
            "Time sampling, plain and fast, beside what the hardware allows.",
            "--preset scenes --batch 1,8",
        ),
        Command(
            "verdict",
            "measuring",
            "Print what a study at equal bits found, with 95 % confidence intervals.",
            "--study natural --out rate.png",
        ),
    ],
    "Official weights": [
        Command(
            "convert",
            "official",
            "Turn downloaded official weights into a checkpoint folder.",
            f"--tokenizer AliTok.pth --ar alitok_b.bin --out {OFFICIAL}",
        ),
        Command(
            "fidsamples",
            "official",
            "Sample an .npz of 50,000 pictures for an FID.",
            f"--model {OFFICIAL} --dtype bfloat16 --out samples.npz",
        ),
    ],
    "Share": [
        Command(
            "export",
            "sharing",
            "Write a checkpoint into another folder, in 8 bits a weight: about two thirds of its size.",
            "--model runs/own --out runs/small",
        ),
        Command("space", "sharing", "Upload the app to a Space on the Hugging Face Hub.", "owner/alitok-lite"),
        Command(
            "publish",
            "sharing",
            "Write the repository's public address into README, notebooks, metadata and citation.",
            "owner/alitok_lite",
        ),
    ],
}
COMMANDS = {command.name: command for group in GROUPS.values() for command in group}


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help that ends with the default, where there is one to say."""

    def _get_help_string(self, action: argparse.Action) -> str:
        said = isinstance(action.default, str | int | float) and not isinstance(action.default, bool)
        shown = said and action.default != argparse.SUPPRESS
        return f"{action.help} (default: %(default)s)" if shown else action.help or ""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are ValueErrors of one sentence."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see `{self.prog} --help`")

    def check_names(self, words: Sequence[str]) -> None:
        """Raise a ValueError that names the nearest option if an option does not exist."""
        known = self._option_string_actions
        for name in (word.split("=")[0] for word in words if word.startswith("--") and " " not in word):
            if name == "--":
                return
            if not any(option.startswith(name) for option in known):
                self.error(f"there is no option {name}{_nearest(name, known)}")


class _Root(_Parser):
    """The parser of the command's name; its help shows the groups."""

    def format_help(self) -> str:
        lines = [self.format_usage(), self.description or ""]
        for title, group in GROUPS.items():
            lines += ["", f"{title}:", *(f"  {command.name:13}{command.text}" for command in group)]
            lines += [f"  {'':13}e.g. alitok {group[0].name} {group[0].example}"]
        lines += ["", "`alitok COMMAND --help` shows a command's options, their defaults and an example,"]
        lines += ["`alitok --version` the version. `python -m alitok_lite` does the same as `alitok`.", ""]
        return "\n".join(lines)


def _nearest(name: str, known: Sequence[str] | dict) -> str:
    close = get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else ""


def parser() -> tuple[_Root, dict[str, _Parser]]:
    """The parser of the whole line, and those of the commands by name."""
    root = _Root("alitok", usage="alitok COMMAND ...", description="Image tokens that an AR model can predict.")
    root.add_argument("--version", action="version", version=f"alitok_lite {__version__}")
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    parsers = {}
    for name, command in COMMANDS.items():
        example = f"example:\n  alitok {name} {command.example}"
        own = commands.add_parser(
            name, prog=f"alitok {name}", description=command.text, epilog=example, formatter_class=_Help
        )
        getattr(options, f"{name}_options")(own)
        parsers[name] = own
    return root, parsers


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command and its options. ValueError, in one sentence, for what is not allowed; help ends the program."""
    root, parsers = parser()
    if words and not words[0].startswith("-"):
        if words[0] not in parsers:
            root.error(f"there is no command {words[0]!r}{_nearest(words[0], parsers)}")
        parsers[words[0]].check_names(words[1:])
    return root.parse_args(words)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 with one sentence on stderr for a user's mistake, 130 at Ctrl-C."""
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    with lenient_console():
        try:
            args = parse(words)
            import_module("..machine", __package__)  # torch: it takes seconds, in which Ctrl-C ends the program at once
            home = import_module(f".{COMMANDS[args.command].home}", __package__)
            imported()
            getattr(home, args.command)(args)
            return 0
        except KeyboardInterrupt as stop:
            status, text = 130, str(stop) or f"{words[0]} was stopped"
        except OSError as error:
            named = error.filename and error.strerror
            status, text = 2, f"{error.filename}: {error.strerror}" if named else str(error)
        except (ValueError, RuntimeError, OverflowError) as error:
            # Python wraps what is raised while a class of an imported module is made, an interrupt, too.
            stopped = isinstance(error.__cause__, KeyboardInterrupt)
            status, text = (130, f"{words[0]} was stopped") if stopped else (2, str(error))
        # Outside the clauses, which hold on to the progress bar: only now has it ended its line.
        if status == 2 or os.environ.get("RANK", "0") == "0":  # as machine.main_process, which needs torch
            print(f"alitok_lite: {text}", file=sys.stderr)
    return status
