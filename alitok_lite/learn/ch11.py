"""The exercises of notebook 11: an exact permutation test, a confidence interval, and the smallest p."""

import itertools
import math
import statistics
from collections.abc import Callable

from .exercises import exercise, known, plain_number, require, require_function, require_number, shortened


@exercise(
    "11.1",
    "stretch",
    15,
    layer="study.verdict.permutation_test",
    why="No distribution is assumed: only that, if the rows did not matter, any division would be as likely.",
    hint="itertools.combinations(range(len(both)), len(first)) gives all ways to choose the first group out of"
    " both = [*first, *second]. Compare absolute differences of means, with 1e-9 to spare for rounding.",
    stub="""
def permutation_p(first, second):
    return 1.0  # your code
""",
)
def permutation_p(answer: Callable) -> None:
    """Write permutation_p(first, second): the share of all ways to divide the values of both lists into two groups of
    these sizes in which the means differ, in either direction, at least as much as those of first and second."""
    require_function(answer)
    apart, twice = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]), "Both directions count"
    once, again = answer(*apart), answer(*apart)
    require(once == again, "Yours gives another p each time: try all divisions, and draw none at random.")
    require_number(once, 2 / 70, f"{twice}: 1 to 4 against 5 to 8 is the extreme of 70 ways, so p = 2 / 70")
    require_number(answer(*apart[::-1]), 2 / 70, "The order of the two rows must not matter: 2 / 70 again")
    require_number(answer([1.0, 2.0], [1.0, 2.0]), 1, "Where the means are equal, every way differs as much: p = 1")
    require_number(answer([1.0, 4.0], [2.0, 6.0]), 4 / 6, "1, 4 against 2, 6: 4 of the 6 ways differ by 1.5 or more")
    groups = ([1.0, 2.0], [3.0, 4.0, 5.0])
    require_number(answer(*groups), 0.2, "Groups may have different sizes: 1, 2 against 3, 4, 5 is 2 of 10 ways")


def _p(fault: str = "") -> Callable:
    """The test, or one with a fault."""

    def permutation_p(first: list[float], second: list[float]) -> float:
        both, n = [*first, *second], len(first)

        def difference(some: tuple[float, ...] | list[float]) -> float:
            return sum(some) / n - (sum(both) - sum(some)) / (len(both) - n)

        true = difference(first)
        ways = [difference(some) for some in itertools.combinations(both, n)]
        if fault == "one side":
            return sum(way >= true - 1e-9 for way in ways) / len(ways)
        if fault == "other side":
            return sum(way <= true + 1e-9 for way in ways) / len(ways)
        if fault == "at most":
            return sum(abs(way) <= abs(true) + 1e-9 for way in ways) / len(ways)
        extreme = sum(abs(way) > abs(true) + 1e-9 if fault == "more" else abs(way) >= abs(true) - 1e-9 for way in ways)
        if fault == "values":  # where two are equal, both are taken out
            splits = [(some, [x for x in both if x not in some]) for some in itertools.combinations(both, n)]
            far = [rest and abs(sum(some) / n - sum(rest) / len(rest)) >= abs(true) - 1e-9 for some, rest in splits]
            return sum(map(bool, far)) / len(splits)
        if fault == "plus one":
            return (extreme + 1) / (len(ways) + 1)
        return extreme if fault == "count" else 1 - extreme / len(ways) if fault == "rest" else extreme / len(ways)

    return permutation_p


_ROWS = ([1.0, 2.0, 3.5], [4.0, 6.0, 7.0]), ([1.0, 4.0], [2.0, 6.0, 8.0]), ([1.0, 2.0], [1.0, 2.0])

known(
    "11.1",
    lambda answer: [answer(*rows) for rows in _ROWS],
    {
        "Where two values are equal, yours takes both out: choose places, not values.": _p("values"),
        "Only one direction is counted; take absolute differences.": _p("one side"),
        "Only one direction is counted; take absolute differences. (Yours is the lower one.)": _p("other side"),
        "The division that was observed does not count in yours: it differs at least as much as itself.": _p("more"),
        "This is the number of ways, not their share.": _p("count"),
        "This is the share of the others: 1 - p.": _p("rest"),
        "The extra 1 is for random permutations; here all ways are counted.": _p("plus one"),
        "Yours counts the divisions that differ at most as much; count those that differ at least as much.": _p(
            "at most"
        ),
    },
)


@exercise(
    "11.2",
    "core",
    10,
    layer="study.verdict.weighted_welch",
    why="The interval says how large the difference may be; a p value alone does not.",
    hint="Means with sum(x) / len(x); the variance is the sum of squared deviations over n - 1, or"
    " statistics.variance(x). The standard error is (v1 / n1 + v2 / n2) ** 0.5.",
    stub="""
def interval(first, second, t):
    return 0.0, 0.0  # your code
""",
)
def interval(answer: Callable) -> None:
    """Write interval(first, second, t): the lower and the upper end of the confidence interval of mean(first) -
    mean(second), which reaches t standard errors of the difference to either side."""
    require_function(answer)
    base, far = [0.0, 1.0, 2.0], [3.0, 4.0, 5.0]  # variance 1
    low, high = _ends(answer(list(far), list(base), 0.0))
    require_number(low, 3, "With t = 0 both ends are the difference of the means, first minus second, 3")
    require_number(high, 3, "With t = 0 both ends are the difference of the means, first minus second, 3")
    low, high = _ends(answer(list(far), list(base), 2.0))
    reach = 2 * (2 / 3) ** 0.5
    message = "Two groups of 3 with variance 1 have a standard error of (1/3 + 1/3) ** 0.5, so t = 2 reaches 1.633"
    require_number(high - 3, reach, message)
    require_number(3 - low, reach, message)
    low, high = _ends(answer([0.0, 1.0, 2.0, 0.0, 1.0, 2.0], far, 1.0))
    wide = (0.8 / 6 + 1 / 3) ** 0.5
    require_number((high - low) / 2, wide, "Each variance is divided by the number of its own runs: 0.8 / 6 + 1 / 3")


def _ends(found: object) -> tuple[object, object]:
    pair = isinstance(found, tuple | list) and len(found) == 2
    require(pair, f"interval must return two numbers, the lower and the upper end; this is {shortened(found)}.")
    return plain_number(found[0]), plain_number(found[1])


def _interval(fault: str = "") -> Callable:
    """The interval, or one with a fault."""

    def interval(first: list[float], second: list[float], t: float) -> tuple[float, float]:
        spread = statistics.pvariance if fault == "n" else statistics.variance
        a, b = spread(first), spread(second)
        error = (a / len(first) + b / len(second)) ** 0.5
        error = (a + b) ** 0.5 if fault == "runs" else error
        error = (a / len(first)) ** 0.5 + (b / len(second)) ** 0.5 if fault == "added" else error
        error = a / len(first) + b / len(second) if fault == "no root" else error
        error = (a / len(first)) ** 0.5 if fault == "first" else error
        error = a**0.5 / len(first) + b**0.5 / len(second) if fault == "by n" else error
        error = spread([*first, *second]) ** 0.5 / (len(first) + len(second)) ** 0.5 if fault == "together" else error
        middle = statistics.mean(first) - statistics.mean(second)
        middle = {"order": -middle, "zero": 0}.get(fault, middle)
        reach = {"half": t / 2, "normal": 1.96}.get(fault, t) * error
        return (middle + reach, middle - reach) if fault == "ends" else (middle - reach, middle + reach)

    return interval


known(
    "11.2",
    lambda answer: list(answer([0.0, 1.0, 2.0, 5.0], [3.0, 4.0, 8.0], 2.0)),
    {
        "This takes the deviations of single runs; divide each variance by its number of runs.": _interval("runs"),
        "The variances are divided by n; they take n - 1.": _interval("n"),
        "The standard errors are added; they add up as squares.": _interval("added"),
        "The root is missing: v1 / n1 + v2 / n2 is the square of the standard error.": _interval("no root"),
        "The difference is second minus first.": _interval("order"),
        "t is the reach to either side, not the whole width.": _interval("half"),
        "The ends are exchanged: the lower one comes first.": _interval("ends"),
        "Only the variance of the first group counts in yours.": _interval("first"),
        "t is not used: yours takes 1.96.": _interval("normal"),
        "A standard error is s / sqrt(n), not s / n; and two of them add up as squares.": _interval("by n"),
        "This takes the spread of all runs together, which holds the difference itself.": _interval("together"),
        "The interval lies around the difference of the means, not around 0.": _interval("zero"),
    },
)


@exercise(
    "11.3",
    "warm-up",
    5,
    why="So the number of runs decides, before any is made, whether a small p is possible at all.",
    hint="There are math.comb(2 * runs, runs) ways to divide the runs. Two of them are the most extreme: all lower"
    " values in the first row, or all in the second.",
    stub="""
def smallest_p(runs):
    return 1.0  # your code
""",
)
def smallest_p(answer: Callable) -> None:
    """Write smallest_p(runs): the smallest two-sided p that a permutation test can give with so many runs in each of
    two rows."""
    require_function(answer)
    require_number(answer(2), 1 / 3, "2 of 2 + 2 runs can be chosen in 6 ways, and 2 of them are extreme, so p = 2 / 6")
    require_number(answer(3), 0.1, "With 3 and 3 runs it is 2 of 20 ways")
    require_number(answer(5), 2 / 252, "With 5 and 5 runs it is 2 of 252 ways")


known(
    "11.3",
    lambda answer: [answer(runs) for runs in (2, 3, 5)],
    {
        "Only one of the two extreme divisions is counted; a two-sided test counts both.": lambda n: (
            1 / math.comb(2 * n, n)
        ),
        "The order within a row does not matter: ways to choose, not permutations.": lambda n: (
            2 / math.factorial(2 * n)
        ),
        "Each row keeps its number of runs; this lets every run choose its row.": lambda n: 2 / 2 ** (2 * n),
        "This is the number of ways, not the p.": lambda n: math.comb(2 * n, n),
        "That is the level 0.05, which few runs cannot reach.": lambda n: 0.05,
        "There are 2 extreme divisions, not 4.": lambda n: 4 / math.comb(2 * n, n),
        "Half of one division is too little: both extreme ones count, so 2 of all ways.": lambda n: (
            0.5 / math.comb(2 * n, n)
        ),
        "That counts pairs of runs; a division chooses n of the 2 n runs.": lambda n: 2 / math.comb(2 * n, 2),
        "The ways are counted by math.comb(2 n, n); n! are the orders of one row.": lambda n: 2 / math.factorial(n),
    },
)
