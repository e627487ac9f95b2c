"""Applies mutants to copies of the tree, one at a time, and runs the nearest tests: do they notice?

    python tests/mutate.py               all of mutants.py, in 20 to 40 minutes on two cores
    python tests/mutate.py losses aux    those of files, or for reasons, that hold one of these words

Two processes work at a time. Each is a fork of this one, which has imported torch but neither the package nor a test,
so that a mutant costs a few seconds. The status is 0 if the tests fail for every mutant that is not called harmless.
"""

import ast
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import accelerate.utils  # noqa: F401  what the tests take long to import
import hypothesis  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import pytest
import scipy.linalg  # noqa: F401
import torch._dynamo  # noqa: F401
from mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
PARALLEL = 2
SECONDS = 180  # for the tests of one mutant; those that hang count as failed
LEFT_OUT = (".git", "__pycache__", ".pytest_cache", ".hypothesis", "*.egg-info", "notebooks")


class Copy:
    """A copy of the tree in which one process at a time runs tests."""

    def __init__(self, folder: Path) -> None:
        self.root, self.log, self.pid = folder / "tree", folder / "log", 0
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*LEFT_OUT))

    def start(self, tests: Sequence[str], mutant: Mutant | None, seconds: float) -> None:
        """Run test files in a fork, after a mutation or without one."""
        self.mutant, self.began, self.limit = mutant, time.monotonic(), seconds
        if mutant is not None:
            self.path = self.root / place_of(mutant)
            self.text = self.path.read_text()
            self.path.write_text(self.text.replace(mutant.old, mutant.new))
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = 3
            try:
                status = self._test(tests)
            finally:
                os._exit(status)

    def _test(self, tests: Sequence[str]) -> int:
        """In the fork: pytest's status."""
        os.setsid()
        file = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        others = [path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / "tests")]
        sys.path[:] = [str(self.root), *others]
        os.chdir(self.root)
        sys.modules.pop("mutants")
        sys.dont_write_bytecode = True  # two versions of a file may be equal in size and age
        os.environ |= {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}
        options = [
            "-x",
            "-q",
            "--no-header",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            "--basetemp",
            str(self.log.with_name("tmp")),
        ]
        return int(pytest.main([*options, *(f"tests/test_{name}.py" for name in tests)]))

    def poll(self) -> str | None:
        """How the tests ended: "passed", "failed", "timed out" or "broke off"; None while they run."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = time.monotonic() - self.began > self.limit
        if pid == 0 and not late:
            return None
        self.stop()
        if self.mutant is not None:
            self.path.write_text(self.text)
        if late:
            return "timed out"
        return {0: "passed", 1: "failed"}.get(os.waitstatus_to_exitcode(status), "broke off")

    def failed(self) -> str:
        """Name of the test that failed last, if one did."""
        found = re.findall(r"^(?:FAILED|ERROR) tests/test_(\S+)", self.log.read_text(errors="replace"), re.M)
        return found[-1] if found else ""

    def stop(self) -> None:
        """End the process, if it still runs, and what it started."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0


class Result(NamedTuple):
    """What the tests said about a mutant."""

    mutant: Mutant
    verdict: str  # killed, survived, stale (its text is not there once) or broken (no valid change)
    seconds: float = 0.0
    by: str = ""  # the test that failed

    @property
    def wrong(self) -> bool:
        """Whether something has to be done: a test, or a change of the list."""
        return self.verdict != ("survived" if self.mutant.harmless else "killed")

    def __str__(self) -> str:
        mutant, mark = self.mutant, "  <-- " if self.wrong else ""
        change = f"{mutant.old!r} -> {mutant.new!r}"
        harmless = f" (harmless: {mutant.harmless})" if mutant.harmless else ""
        by = f" by {self.by}" if self.by else ""
        return (
            f"{self.verdict:8} {self.seconds:5.1f} s  {mutant.files[0]}: {change}  [{mutant.why}]{harmless}{by}{mark}"
        )


def place_of(mutant: Mutant) -> Path:
    """The file, under the tree, that a mutant changes. Raises LookupError unless its text is there exactly once."""
    paths = [path for name in mutant.files if (path := ROOT / "alitok_lite" / name).exists()]
    found = {path: count for path in paths if (count := path.read_text().count(mutant.old))}
    if sum(found.values()) != 1:
        raise LookupError(f"{mutant.old!r} is found {sum(found.values())} times in {', '.join(mutant.files)}")
    return next(iter(found)).relative_to(ROOT)


def fault(mutant: Mutant) -> str | None:
    """Why a mutant cannot be tried: "stale" or "broken"; None if it can."""
    try:
        ast.parse((ROOT / place_of(mutant)).read_text().replace(mutant.old, mutant.new))
    except LookupError:
        return "stale"
    except SyntaxError:
        return "broken"
    return None


def try_all(mutants: Sequence[Mutant], show: Callable[[Result], object], seconds: float = SECONDS) -> list[Result]:
    """The verdict on each mutant, shown as soon as it is there. Raises RuntimeError if tests fail without one."""
    results = [Result(mutant, verdict) for mutant in mutants if (verdict := fault(mutant))]
    for result in results:
        show(result)
    bad = {id(result.mutant) for result in results}
    waiting = [mutant for mutant in mutants if id(mutant) not in bad]
    tests = sorted({name for mutant in waiting for name in mutant.tests})
    verdicts = {"passed": "survived", "failed": "killed", "timed out": "killed", "broke off": "broken"}
    with tempfile.TemporaryDirectory() as folder:
        copies = [Copy(Path(folder) / str(number)) for number in range(min(PARALLEL, len(waiting)))]
        try:
            if copies:
                copies[0].start(tests, None, 10 * seconds)
                while (ended := copies[0].poll()) is None:
                    time.sleep(0.05)
                if ended != "passed":
                    raise RuntimeError(f"the tests {ended} without a mutant:\n{copies[0].log.read_text()[-3000:]}")
            while waiting or any(copy.pid for copy in copies):
                for copy in copies:
                    if not copy.pid and waiting:
                        mutant = waiting.pop(0)
                        copy.start(mutant.tests, mutant, seconds)
                    elif copy.pid and (ended := copy.poll()):
                        took = time.monotonic() - copy.began
                        results.append(Result(copy.mutant, verdicts[ended], took, copy.failed()))
                        show(results[-1])
                time.sleep(0.05)
        finally:
            for copy in copies:
                copy.stop()
    return results


def main(mutants: Sequence[Mutant], seconds: float = SECONDS) -> int:
    """Try mutants and print what became of them. Returns 0, 1 (something is wrong) or 2 (so are the tests)."""
    began = time.monotonic()
    try:
        results = try_all(mutants, lambda result: print(result, flush=True), seconds)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    counts = {name: [r.verdict for r in results].count(name) for name in ("killed", "survived", "stale", "broken")}
    harmless, wrong = sum(bool(mutant.harmless) for mutant in mutants), [result for result in results if result.wrong]
    share = 100 * counts["killed"] / max(1, len(results))
    print(f"\n{len(results)} mutants, {(time.monotonic() - began) / 60:.1f} minutes: {share:.1f} % killed, ", end="")
    print(", ".join(f"{count} {name}" for name, count in counts.items()), f"({harmless} are called harmless)")
    for result in wrong:
        print(result)
    return 1 if wrong else 0


def chosen(words: Sequence[str]) -> list[Mutant]:
    """The mutants whose file or reason holds one of the words; all without words."""
    return [m for m in MUTANTS if not words or any(word in f"{m.files} {m.why}" for word in words)]


if __name__ == "__main__":
    sys.exit(main(chosen(sys.argv[1:])))
