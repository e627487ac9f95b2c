"""The mutation run: every fault of mutants.py makes a test fail; and the runner tells what became of a mutant."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MUTANTS

TESTS = Path(__file__).parent
SAMPLE = """
import sys
from mutants import Mutant
from mutate import main
scan = lambda old, new, harmless="": Mutant(("data/scan.py",), old, new, "", ("scan",), harmless)
sys.exit(main([
    scan("if number % 2", "if number % 3"),
    scan("row.flip(0)", "row"),
    scan('"column", "serpentine"', '"column",  "serpentine"', "a space"),
    scan('"column", "serpentine"', '"column",   "serpentine"'),
    scan("if number % 2", "if number % 3", "not so"),
    scan("no such text", ""),
    scan("grid", "size"),
    scan("if number % 2", "if number %"),
    scan("import torch\\n", "import nothing_of_that_name\\n"),
    scan('if name == "raster":', 'while name == "raster":\\n        pass\\n    if name == "raster":'),
][:int(sys.argv[1])], seconds=20))
"""


ENVIRONMENT = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def python(*arguments: str, seconds: float) -> subprocess.CompletedProcess:
    program = [sys.executable, *arguments]
    return subprocess.run(program, capture_output=True, text=True, timeout=seconds, env=ENVIRONMENT)


def test_list_is_long_enough_and_names_its_exceptions():
    assert len(MUTANTS) >= 90
    assert sum(bool(mutant.harmless) for mutant in MUTANTS) <= 0.05 * len(MUTANTS)
    assert len({mutant[:3] for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert mutant.old != mutant.new and mutant.why and mutant.tests
        assert (TESTS.parent / "alitok_lite" / mutant.files[0]).exists()
        assert all((TESTS / f"test_{name}.py").exists() for name in mutant.tests)


@pytest.mark.slow
def test_no_mutant_is_stale_and_each_is_valid():
    """Otherwise change its text in mutants.py."""
    code = "from mutate import *; print([(fault(m), m.files, m.old) for m in MUTANTS if fault(m)])"
    result = python("-c", code, seconds=120)
    assert result.stdout == "[]\n", result.stdout + result.stderr


@pytest.mark.slow
def test_runner_tells_what_became_of_a_mutant():
    """The first three are as they should be: two killed, one harmless. Of the others one takes for ever."""
    result = python("-c", SAMPLE, "10", seconds=300)
    verdicts = sorted(line.split()[0] for line in result.stdout.split("\n\n")[0].splitlines())
    assert result.returncode == 1, result.stderr
    assert verdicts == sorted(["killed"] * 4 + ["survived"] * 2 + ["stale"] * 2 + ["broken"] * 2), result.stdout
    assert "10 mutants" in result.stdout and "40.0 % killed, 4 killed, 2 survived, 2 stale, 2 broken" in result.stdout
    wrong = result.stdout.split("called harmless)\n")[1].splitlines()
    assert len(wrong) == 6 and all(line.endswith("<-- ") for line in wrong)
    assert python("-c", SAMPLE, "3", seconds=300).returncode == 0


@pytest.mark.mutants
def test_every_mutant_is_killed_unless_it_is_harmless():
    """`pytest -m mutants -s` shows each verdict as soon as it is there."""
    with subprocess.Popen([sys.executable, str(TESTS / "mutate.py")], env=ENVIRONMENT) as process:
        try:
            assert process.wait(45 * 60) == 0
        finally:
            if process.poll() is None:  # so that it ends its own processes and removes its copies
                process.send_signal(signal.SIGINT)
