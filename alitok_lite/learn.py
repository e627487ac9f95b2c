"""The exercises of the notebooks: `check` tests an answer, `hint` helps, `solution` shows one that passes.

Every exercise is one function below: its name is the name of the answer, its docstring the task, its body requires
properties of the answer, each with a sentence for the learner who misses it. Any answer with the properties passes.
The solutions are in solutions.py, which a teacher may leave out: `check` and `hint` work without it.
"""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import official
from .ar import ARModel
from .config import ARConfig, TokenizerConfig
from .layers import causal_mask
from .tokenizer import Tokenizer

SOLUTIONS = Path(__file__).with_name("solutions.py")


class Unmet(Exception):
    """A property that an answer lacks; the message says which, and what was found."""


@dataclass(frozen=True)
class Exercise:
    """One exercise. `stub` is the code that the learner starts from; it runs, and does not pass."""

    number: str
    name: str  # of the answer, in the stub and in the solution
    task: str
    hint: str
    stub: str
    test: Callable[[object], None]  # raises Unmet


EXERCISES: dict[str, Exercise] = {}


def exercise(number: str, hint: str, stub: str) -> Callable:
    """Registers the function below it as the test of an exercise."""

    def register(test: Callable[[object], None]) -> Callable[[object], None]:
        task = " ".join(test.__doc__.split())
        EXERCISES[number] = Exercise(number, test.__name__, task, hint, stub.strip() + "\n", test)
        return test

    return register


def find(number: str) -> Exercise:
    """The exercise of that number; ValueError, naming those that exist, for another."""
    if str(number) not in EXERCISES:
        raise ValueError(f"there is no exercise {number!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[str(number)]


def check(number: str, answer: object) -> bool:
    """Whether the answer has every property that the exercise asks for; prints a sentence that says which is missing.

    An exception in the learner's code is a missing property too. ValueError for an unknown number.
    """
    wanted = find(number)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():  # the notebook's own numbers stay as they are
            wanted.test(answer)
    except Unmet as unmet:
        _print(f"{number}: not yet. {unmet}")
    except Exception as error:  # the learner's code may raise anything
        _print(f"{number}: not yet. {wanted.name} stopped with {type(error).__name__}: {error}".split("\n")[0])
    else:
        print(f"{number}: right!")
        return True
    return False


def hint(number: str) -> None:
    """Print the hint of an exercise; ValueError for an unknown number."""
    _print(find(number).hint)


def _print(text: str) -> None:
    """In lines that a notebook shows whole; it breaks longer ones anywhere."""
    print(textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False))


def solution(number: str) -> None:
    """Print a solution, or that this copy comes without; ValueError for an unknown number."""
    text = solution_source(number)
    print(text or f"This copy comes without the solution of {number}: ask your teacher, and try hint({number!r}).")


def solution_source(number: str) -> str:
    """The code of a solution, which needs torch alone; empty where there is none."""
    find(number)
    text = SOLUTIONS.read_text() if SOLUTIONS.is_file() else ""
    for section in text.split("\n# --- ")[1:]:
        name, source = section.split("\n", 1)
        if name.strip() == str(number):
            return source.strip() + "\n"
    return ""


# ---------------------------------------------------------------- what tests share


def _require(condition: object, message: str) -> None:
    if not condition:
        raise Unmet(message)


def _function(answer: object) -> None:
    _require(callable(answer), f"The answer must be a function; this is {_short(answer)}.")


def _short(value: object) -> str:
    """A value in one short line."""
    text = str(value.tolist() if isinstance(value, Tensor) else value).replace("\n", " ")
    return text if len(text) <= 60 else text[:57] + "..."


def _plain(value: object) -> object:
    """A number out of a tensor or array that holds one, else the value itself."""
    single = isinstance(value, Tensor | np.ndarray | np.generic) and np.prod(value.shape) == 1
    return value.item() if single else value


def _number(found: object, wanted: float, message: str) -> None:
    """found must be that number, up to rounding; a tensor with one number is one too."""
    found = _plain(found)
    right = isinstance(found, int | float) and abs(found - wanted) <= 1e-4 * max(1, abs(wanted))
    _require(right, f"{message}; yours is {_short(found)}.")


def _as_tensor(found: object, name: str) -> Tensor:
    """What a function returned: a tensor, an array, or a list of numbers or of tensors."""
    _require(found is not None, f"{name} returns nothing; is there a return?")
    if isinstance(found, list | tuple) and found and all(isinstance(part, Tensor) for part in found):
        return torch.stack(list(found))
    return torch.as_tensor(found)


def _tensor(found: object, wanted: Tensor, message: str) -> None:
    """found must have the shape and the values of wanted."""
    found = _as_tensor(found, "Your function").detach()
    shapes = f"its shape must be {tuple(wanted.shape)}, and is {tuple(found.shape)}"
    _require(found.shape == wanted.shape, f"{message}: {shapes}.")
    right = torch.allclose(found.double(), wanted.double(), atol=1e-5)
    _require(right, f"{message}; yours is {_short(found)}.")


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- 01, an image is a short sentence


@exercise(
    "1.1",
    hint="A picture is T tokens, and one of V codes takes log2(V) bits. The prefix adds 1 + G tokens.",
    stub="""
def bits_per_picture(image_size, patch_size, codebook_size, prefix):
    return 0  # your code
""",
)
def bits_per_picture(answer: Callable) -> None:
    """Write bits_per_picture(image_size, patch_size, codebook_size, prefix): how many bits the ids of one picture take.
    prefix is True or False."""
    _function(answer)
    _number(answer(64, 16, 2, False), 16, "With two codes a token is one bit, so 4 x 4 tokens take 16")
    more = answer(64, 16, 2048, False) - answer(64, 16, 1024, False)
    _number(more, 16, "Twice the codes must cost one bit more for each of 16 tokens, 16 in all")
    _number(answer(64, 8, 1024, False), 640, "Half the patch side makes four times the tokens, 64 of 10 bits")
    more = answer(64, 16, 2, True) - answer(64, 16, 2, False)
    _number(more, 5, "On a 4 x 4 grid the prefix adds 1 + 4 tokens, with two codes 5 bits")


@exercise(
    "1.2",
    hint="Squared distances of all pairs: (latents[:, None] - codebook[None]).square().sum(-1). Which is the least?",
    stub="""
def nearest_code(latents, codebook):
    return torch.zeros(len(latents), dtype=torch.long)  # your code
""",
)
def nearest_code(answer: Callable) -> None:
    """Write nearest_code(latents, codebook): for latents (N, d) and a codebook (V, d) the ids (N,) of the nearest codes
    by squared distance."""
    _function(answer)
    codebook = _randn(8, 3, seed=1) * torch.linspace(0.2, 3, 8)[:, None]  # short and long codes
    _tensor(answer(codebook.clone(), codebook), torch.arange(8), "A latent that is a code must get that code's id")
    line = torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    found = answer(torch.tensor([[2.0, 0.0], [3.5, 0.0]]), line)
    _tensor(found, torch.tensor([0, 1]), "Between codes at 1 and 4, the latents 2 and 3.5 belong to ids 0 and 1")
    latents = _randn(50, 3)
    wanted = torch.cdist(latents, codebook).argmin(1)
    _tensor(answer(latents, codebook), wanted, "Each of 50 latents must get its nearest code")


@exercise(
    "1.3",
    hint="What is added to the latents must have the right value and no gradient: detach() it.",
    stub="""
def straight_through(latents, codes):
    return codes  # your code
""",
)
def straight_through(answer: Callable) -> None:
    """Write straight_through(latents, codes): its value is the codes, but its gradient goes to the latents as if
    nothing had been rounded."""
    _function(answer)
    latents, codes = _randn(4, 3).requires_grad_(), _randn(4, 3, seed=1).requires_grad_()
    found = answer(latents, codes)
    _tensor(found, codes.detach(), "Forwards, the value must be the codes")
    _require(found.requires_grad, "Backwards, no gradient gets through: the result is cut off from the latents.")
    weights = _randn(4, 3, seed=2)
    to_latents, to_codes = torch.autograd.grad((found * weights).sum(), (latents, codes), allow_unused=True)
    nothing = to_latents is None or not to_latents.any()
    _require(not nothing, "Backwards, the latents get no gradient: the encoder would never learn.")
    _tensor(to_latents, weights, "Backwards, the latents must get the gradient of the result unchanged")
    quiet = to_codes is None or not to_codes.any()
    _require(quiet, "Backwards, the codes get a gradient too; they must learn from their own loss alone.")


# ---------------------------------------------------------------- 02, who may look at whom


@exercise(
    "2.1",
    hint="Query i of q stands at key i + (k - q). torch.ones(q, k, dtype=torch.bool).tril(diagonal) keeps a corner.",
    stub="""
def my_mask(queries, keys):
    return torch.ones(queries, keys, dtype=torch.bool)  # your code
""",
)
def my_mask(answer: Callable) -> None:
    """Write my_mask(queries, keys): a bool mask (queries, keys), True where a query may see a key. The queries are the
    last of the sequence, as with a KV cache: the last query sees every key, nobody sees the future."""
    _function(answer)
    square = _as_tensor(answer(4, 4), "my_mask")
    _require(square.shape == (4, 4), f"my_mask(4, 4) must have shape (4, 4), and has {tuple(square.shape)}.")
    square = square.bool()
    _require(square.diagonal().all(), "Every position must see itself: the diagonal must be True.")
    _require(not square.triu(1).any(), "Query 0 sees the future: key 1 and later come after it.")
    _require(square.tril().sum() == 10, "Every position must see all earlier ones: the lower left must be True.")
    last = torch.as_tensor(answer(1, 5)).bool()
    _require(
        last.all(), f"The one query of my_mask(1, 5) is the newest and must see 5 keys; it sees {int(last.sum())}."
    )
    _tensor(answer(2, 5), causal_mask(2, 5), "In my_mask(2, 5) query 0 must see keys 0 to 3 and query 1 all")


@exercise(
    "2.2",
    hint="A leak is a pair with key > query where the mask is True. mask.nonzero() lists all True places.",
    stub="""
def leaks(mask):
    return []  # your code
""",
)
def leaks(answer: Callable) -> None:
    """Write leaks(mask): the list of all (query, key) pairs in which a query of the square bool mask sees a later
    key."""
    _function(answer)
    broken = causal_mask(6, 6).clone()
    _pairs(answer(broken.clone()), set(), "A causal mask has no leak, so the list must be empty")
    broken[1, 4] = True
    _pairs(answer(broken.clone()), {(1, 4)}, "Where query 1 sees key 4, the one leak is (1, 4)")
    broken[3, 5] = True
    _pairs(answer(broken.clone()), {(1, 4), (3, 5)}, "With two leaks, (1, 4) and (3, 5), both must be listed")
    strict = torch.zeros(3, 3, dtype=torch.bool)
    _pairs(answer(strict), set(), "A mask without any True has no leak")


def _pairs(found: object, wanted: set, message: str) -> None:
    _require(found is not None, "leaks returns nothing; is there a return?")
    listed = [tuple(int(x) for x in pair) for pair in (found.tolist() if isinstance(found, Tensor) else found)]
    _require(set(listed) == wanted and len(listed) == len(wanted), f"{message}; yours is {_short(listed)}.")


@exercise(
    "2.3",
    hint="Count: all prefix tokens, the image tokens of the rows above, those to the left, and the patch's own.",
    stub="""
def tokens_heard(row, column, grid, prefix_tokens):
    return 0  # your code
""",
)
def tokens_heard(answer: Callable) -> None:
    """Write tokens_heard(row, column, grid, prefix_tokens): on how many tokens the patch at (row, column) may depend
    in a causal decoder."""
    _function(answer)
    _number(answer(3, 3, 4, 0), 16, "The last patch of a 4 x 4 grid without prefix must hear all 16 tokens")
    _number(answer(0, 0, 4, 0), 1, "The first patch without prefix must hear its own token, 1")
    _number(answer(1, 0, 4, 0) - answer(0, 3, 4, 0), 1, "From the end of a row to the start of the next is one token")
    _number(answer(2, 1, 4, 0) - answer(1, 1, 4, 0), 4, "One row further down a 4 x 4 grid are 4 more tokens")
    _number(answer(0, 0, 4, 5) - answer(0, 0, 4, 0), 5, "A prefix of 5 tokens is heard by every patch, 5 more")


# ---------------------------------------------------------------- 03, the first row has nobody to lean on


@exercise(
    "3.1",
    hint="The first row of patches is picture[:, :patch]; cut it every `patch` columns. The corner comes first, too.",
    stub="""
def my_target(picture, patch):
    grid = picture.shape[-1] // patch
    return torch.zeros(1 + grid, 3, patch, patch)  # your code
""",
)
def my_target(answer: Callable) -> None:
    """Write my_target(picture, patch): what the 1 + G prefix outputs must show of a picture (3, S, S), as
    (1 + G, 3, p, p): the top-left patch, then the G patches of the first row."""
    _function(answer)
    picture = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    found = _as_tensor(answer(picture.clone(), 4), "my_target")
    shape = f"For a 12 x 12 picture and patches of 4, the shape must be (4, 3, 4, 4), and is {tuple(found.shape)}"
    _require(found.shape == (4, 3, 4, 4), f"{shape}: 1 + 3 patches.")
    _require(torch.equal(found[0], picture[:, :4, :4]), "Patch 0 must be the top-left patch.")
    _require(torch.equal(found[1], picture[:, :4, :4]), "Patch 1 must be the first of the first row: the corner again.")
    across = torch.equal(found[2], picture[:, :4, 4:8])
    down = torch.equal(found[2], picture[:, 4:8, :4])
    _require(not down or across, "Patch 2 stands below the corner: yours is the first column, not the first row.")
    _require(across, "Patch 2 must be the second of the first row: rows 0 to 3, columns 4 to 7.")
    _require(torch.equal(found[3], picture[:, :4, 8:]), "The last patch must be the last of the first row.")


@exercise(
    "3.2",
    hint="a[:k], b[:k] = b[:k], a[:k] fails, because slices are views; start from ids.clone(), or use ids.flip(0).",
    stub="""
def swap(ids, prefix_tokens):
    return ids  # your code
""",
)
def swap(answer: Callable) -> None:
    """Write swap(ids, prefix_tokens): the ids (2, T) of two pictures with exchanged prefixes; row 0 keeps the image
    tokens of picture 0. The ids that were given stay as they are."""
    _function(answer)
    ids = torch.arange(14).view(2, 7)
    given = ids.clone()
    found = _as_tensor(answer(given, 3), "swap")
    _require(found.shape == (2, 7), f"The result must have shape (2, 7), and has {tuple(found.shape)}.")
    _tensor(found[:, 3:], ids[:, 3:], "The image tokens must stay where they are")
    _tensor(found[0, :3], ids[1, :3], "Row 0 must begin with the prefix of picture 1")
    _tensor(found[1, :3], ids[0, :3], "Row 1 must begin with the prefix of picture 0")
    _require(torch.equal(given, ids), "The ids that were given have been changed; work on a copy.")


@exercise(
    "3.3",
    hint="The share is (1 + G) / (1 + G + G*G). Try G = 1, 2, 3, ... in a loop.",
    stub="""
cheap_from = 1  # your number
""",
)
def cheap_from(answer: int) -> None:
    """From which grid side G on do the 1 + G prefix tokens make less than a tenth of all tokens? Give the smallest
    such G as a whole number."""
    answer = _plain(answer)
    right = isinstance(answer, int | float) and answer == int(answer) and answer >= 1
    _require(right, f"The answer must be a whole number of 1 or more; this is {_short(answer)}.")
    grid = int(answer)
    here, before = ((1 + g) / (1 + g + g * g) for g in (grid, grid - 1))
    _require(here < 0.1, f"At G = {grid} the prefix is still {here:.1%} of the tokens.")
    _require(before >= 0.1, f"At G = {grid - 1} it is {before:.1%} already, so {grid} is not the smallest.")


# ---------------------------------------------------------------- 04, two stages, one codebook


@exercise(
    "4.1",
    hint="tokenizer.requires_grad_(False) freezes everything; then wake the one module that stage 2 trains.",
    stub="""
def prepare_stage2(tokenizer):
    pass  # your code
""",
)
def prepare_stage2(answer: Callable) -> None:
    """Write prepare_stage2(tokenizer): set requires_grad so that stage 2 trains what it should and nothing else. The
    parts are tokenizer.encoder, .quantizer, .decoder1 (causal) and .decoder2 (bidirectional)."""
    _function(answer)
    sizes = {f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in _SMALL}
    tokenizer = Tokenizer(TokenizerConfig(image_size=32, codebook_size=8, code_dim=4, **sizes), (1, 2))
    tokenizer.decoder2.requires_grad_(False)  # it must be woken, whatever went before
    answer(tokenizer)
    learns = {name: {p.requires_grad for p in part.parameters()} for name, part in tokenizer.named_children()}
    _require(
        False not in learns["decoder2"], "The bidirectional decoder (decoder2) does not learn, and stage 2 is for it."
    )
    _require(True not in learns["encoder"], "The encoder, or its latent queries, still learn: the ids would change.")
    _require(True not in learns["quantizer"], "The codebook still learns: the same ids would mean something else.")
    _require(True not in learns["decoder1"], "The causal decoder (decoder1) still learns; its stage is over.")


_SMALL = (("width", 16), ("depth", 1), ("heads", 2))


@exercise(
    "4.2",
    hint="Mean squared error of each picture: (a - b).square().flatten(1).mean(1); then -10 times its log10.",
    stub="""
def my_psnr(decoded, pixels):
    return torch.zeros(len(pixels))  # your code
""",
)
def my_psnr(answer: Callable) -> None:
    """Write my_psnr(decoded, pixels): the peak signal-to-noise ratio in dB of each picture, (B, 3, S, S) in [0, 1] to
    (B,): -10 log10 of its mean squared error."""
    _function(answer)
    pixels = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
    error = torch.tensor([0.1, 0.01, 0.1]).view(3, 1, 1, 1)
    found = _as_tensor(answer(pixels + error, pixels), "my_psnr")
    shape = tuple(found.shape)
    _require(shape == (3,), f"Three pictures have three values, of shape (3,); yours has {shape}.")
    _tensor(found[0], torch.tensor(20.0), "An error of 0.1 at every pixel must be 20 dB")
    _tensor(found[1] - found[0], torch.tensor(20.0), "A tenth of the error must be 20 dB more")
    noise = _randn(3, 3, 8, 8) * error
    wanted = -10 * noise.square().flatten(1).mean(1).log10()
    _tensor(answer(pixels + noise, pixels), wanted, "The mean must be of the squared error of each picture by itself")


@exercise(
    "4.3",
    hint="Which decoder punishes an encoder that hides something about patch 0 in a later token?",
    stub="""
decoder_of = {1: "?", 2: "?"}  # "causal" or "bidirectional"
""",
)
def decoder_of(answer: dict) -> None:
    """Should the decoder be causal or bidirectional? Give a dict: stage 1 and stage 2, each "causal" or
    "bidirectional"."""
    right = isinstance(answer, dict) and set(answer) == {1, 2}
    _require(right, f"The answer must be a dict with keys 1 and 2; this is {_short(answer)}.")
    words = {stage: str(word).strip().lower() for stage, word in answer.items()}
    for stage, word in words.items():
        known = word in ("causal", "bidirectional")
        _require(known, f'Stage {stage} must be "causal" or "bidirectional"; it is {answer[stage]!r}.')
    taught = "With a bidirectional decoder in stage 1 nothing keeps the encoder from leaning on later tokens."
    _require(words[1] == "causal", taught)
    better = "In stage 2 the tokens are frozen, so a decoder that sees all of them can only help the pixels."
    _require(words[2] == "bidirectional", better)


# ---------------------------------------------------------------- 05, a language model that draws


@exercise(
    "5.1",
    hint="The inputs begin with the class token and lack the last id; the targets are the ids themselves.",
    stub="""
def shift(ids, class_tokens):
    return ids, ids  # your code
""",
)
def shift(answer: Callable) -> None:
    """Write shift(ids, class_tokens): from ids (B, T) and class tokens (B,) the inputs (B, T) and targets (B, T) of the
    AR model: at each place it reads what came before and must say the id that comes there."""
    _function(answer)
    ids, classes = torch.arange(10, 18).view(2, 4), torch.tensor([98, 99])
    found = answer(ids.clone(), classes.clone())
    pair = isinstance(found, tuple | list) and len(found) == 2
    _require(pair, "shift must return two tensors, inputs and targets.")
    inputs, targets = found
    _require(
        tuple(targets.shape) == (2, 4), f"There are 4 ids to say, and your targets have shape {tuple(targets.shape)}."
    )
    _tensor(targets, ids, "Every id must be said, also the first: the targets must be the ids")
    _require(not torch.equal(inputs, ids), "Your model reads the very id that it must say: nothing is left to learn.")
    _require(tuple(inputs.shape) == (2, 4), f"There are 4 places to read, and your inputs have {tuple(inputs.shape)}.")
    _tensor(inputs[:, 0], classes, "What is read before the first id must be the class token")
    _tensor(inputs[:, 1:], ids[:, :-1], "Behind the class token come the ids, up to the last but one")


@exercise(
    "5.2",
    hint="1 + (g - 1) (1 - cos(pi (t / T) ** p)) / 2, for t = 0 .. T - 1.",
    stub="""
def ramp(tokens, guidance, power):
    return torch.full((tokens,), float(guidance))  # your code
""",
)
def ramp(answer: Callable) -> None:
    """Write ramp(tokens, guidance, power): the guidance scale at each of T tokens, (T,): half a cosine from 1 at t = 0
    towards g, which t = T would reach, with t / T raised to the power p."""
    _function(answer)
    found = _as_tensor(answer(100, 5.0, 1.0), "ramp").float()
    _require(found.shape == (100,), f"There are 100 tokens, and your ramp has shape {tuple(found.shape)}.")
    _number(found[0], 1, "At the first token the scale must be 1, no guidance")
    _require((found.diff() > 0).all(), "The scale must rise from token to token.")
    last = found[-1].item()
    _require(4.9 < last < 5, f"The last token is T - 1, so its scale must stay just under g = 5; yours is {last:.4f}.")
    _number(found[50], 3, "With power 1 the middle of a ramp to 5 must be 3")
    bent = _as_tensor(answer(100, 5.0, 2.0), "ramp").float()
    lower = f"A larger power must rise later: at token 50 power 2 gives {bent[50]:.2f}, power 1 gives {found[50]:.2f}"
    _require(bent[50] < found[50], f"{lower}.")
    _number(bent[50], 1 + 2 * (1 - 0.5**0.5), "With power 2, token 50 must be at a quarter of the cosine")
    _number(_as_tensor(answer(7, 1.0, 1.4), "ramp").max(), 1, "Guidance 1 must be 1 everywhere")


@exercise(
    "5.3",
    hint="Divide the logits by the temperature, then softmax over the last dimension.",
    stub="""
def probabilities(logits, temperature):
    return torch.zeros_like(logits)  # your code
""",
)
def probabilities(answer: Callable) -> None:
    """Write probabilities(logits, temperature): from logits (B, V) the probabilities (B, V) of the next id at a
    temperature above 0."""
    _function(answer)
    logits = 2 * _randn(2, 6)
    plain = _as_tensor(answer(logits.clone(), 1.0), "probabilities")
    _require(plain.shape == (2, 6), "The result must have the shape of the logits, (2, 6).")
    _tensor(plain.sum(-1), torch.ones(2), "The probabilities of each picture must add up to 1")
    _tensor(plain, logits.softmax(-1), "At temperature 1 they must be the softmax of the logits")
    cold, hot = (torch.special.entr(answer(logits.clone(), t)).sum(-1) for t in (0.5, 2.0))
    order = "A higher temperature must be less certain: entropies at 0.5 and 2 are"
    _require((hot > cold).all(), f"{order} {cold[0]:.2f} and {hot[0]:.2f}.")
    for t in (0.5, 2.0):
        found = answer(logits.clone(), t)
        _tensor(found.sum(-1), torch.ones(2), f"At temperature {t:g} they must add up to 1 too")
        wanted = "the ratio of two probabilities must be that at temperature 1, to the power 1 / temperature"
        _tensor(found, (logits / t).softmax(-1), f"At temperature {t:g} {wanted}")


def _no_nan(entropy: float) -> None:
    known = entropy == entropy  # only nan differs from itself
    _require(known, "A code that never occurs must add nothing, and yours makes nan of it: 0 * log(0).")


# ---------------------------------------------------------------- 06, are the tokens predictable?


@exercise(
    "6.1",
    hint="Add up the nats of the tokens of each picture, nats.sum(1); a bit is log(2) = 0.693 nats.",
    stub="""
def bits_per_image(nats):
    return nats.mean(1)  # your code
""",
)
def bits_per_image(answer: Callable) -> None:
    """Write bits_per_image(nats): from the nats (N, T) that the tokens of N pictures cost, the bits (N,) that each
    whole picture costs."""
    _function(answer)
    nats = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    found = _as_tensor(answer(nats.clone()), "bits_per_image")
    shape = tuple(found.shape)
    _require(shape == (3,), f"Three pictures have three numbers of bits, of shape (3,); yours has {shape}.")
    twice = _as_tensor(answer(torch.cat([nats, nats], 1)), "bits_per_image")
    longer = "A sentence that is said twice must cost twice the bits, because tokens add up; yours goes from"
    _require(torch.allclose(twice, 2 * found), f"{longer} {found[0]:.2f} to {twice[0]:.2f}.")
    coins = torch.full((1, 4), 2.0).log()
    _tensor(answer(coins), torch.tensor([4.0]), "Four tokens of log(2) nats, a coin toss each, must cost 4 bits")
    _tensor(answer(nats), nats.sum(1) / coins[0, 0], "Each picture must cost the bits of its own tokens")


@exercise(
    "6.2",
    hint="Shares p = counts / counts.sum(), entropy -(p * p.log()).sum() over p > 0; then less nats.mean().",
    stub="""
def gain(counts, nats):
    return 0.0  # your code
""",
)
def gain(answer: Callable) -> None:
    """Write gain(counts, nats): how many nats per token the AR model saves by knowing class, place and the words
    before. counts (V,) says how often each code occurs; nats (N, T) is what the tokens cost the AR model."""
    _function(answer)
    free = torch.zeros(2, 3)
    even = torch.full((8,), 5)
    uniform = "Of 8 codes, all equally frequent, a model that is never surprised must save log(8) = 2.0794 nats a token"
    _number(answer(even, free), torch.tensor(8.0).log().item(), uniform)
    _number(
        answer(even, free + 1), torch.tensor(8.0).log().item() - 1, "If each token costs it 1 nat, it must save 1 less"
    )
    unused = _plain(answer(torch.tensor([5, 5, 0, 0]), free))
    _no_nan(unused)
    half = "Two of four codes are in use, equally often, so a model that is never surprised must save log(2) = 0.6931"
    _number(unused, torch.tensor(2.0).log().item(), half)
    counts = torch.tensor([1, 2, 3, 4])
    wanted = torch.special.entr(counts / 10).sum().item()
    _number(answer(counts, free + wanted), 0, "A model that knows only how frequent each code is must save nothing")


@exercise(
    "6.3",
    hint="torch.tensor(first).std() divides by n - 1. Compare abs(mean - mean) with 2 * (s1**2 + s2**2) ** 0.5.",
    stub="""
def is_effect(first, second):
    return False  # your code
""",
)
def is_effect(answer: Callable) -> None:
    """Write is_effect(first, second): from the numbers of several seeds of two rows, two lists, whether the means
    differ by more than 2 * sqrt(s1^2 + s2^2), s1 and s2 being the standard deviations over the seeds. True or
    False."""
    _function(answer)
    base = [0.0, 1.0, 2.0]  # mean 1, standard deviation 1: the border is at 2 * sqrt(2) = 2.83
    far, near, middle = ([x + shift for x in base] for shift in (3.0, 2.5, 1.0))
    cases = [
        (base, [x + 9 for x in base], True, "0, 1, 2 against 9, 10, 11 must be an effect: 9 apart, the border is 2.83"),
        ([x + 9 for x in base], base, True, "An effect must be one whichever row comes first: take the absolute value"),
        (base, middle, False, "0, 1, 2 against 1, 2, 3 must be none: 1 apart, the border is 2.83"),
        (base, near, False, "The border of 0, 1, 2 against 2.5, 3.5, 4.5 must be 2.83: deviations of seeds, by n - 1"),
        (base, far, True, "The border of 0, 1, 2 against 3, 4, 5 must be 2.83: the deviations add up as squares"),
        (
            [5.0, 5.1, 4.9],
            far,
            False,
            "4.9, 5, 5.1 against 3, 4, 5 must be none: the wider of the two spreads counts too",
        ),
        (far, [5.0, 5.1, 4.9], False, "The spread of the first row must count as much as that of the second"),
    ]
    for first, second, wanted, message in cases:
        found = _plain(answer(list(first), list(second)))
        _require(found in (True, False), f"is_effect must return True or False; this is {_short(found)}.")
        _require(bool(found) == wanted, f"{message}; yours says {bool(found)}.")


# ---------------------------------------------------------------- 07, from scenes to ImageNet


@exercise(
    "7.1",
    hint="qkv D x 3D + 3D, out D x D + D, two norms of D, two QK-norms of D / heads, three matrices D x hidden.",
    stub="""
def block_parameters(width, heads, hidden):
    return 0  # your code
""",
)
def block_parameters(answer: Callable) -> None:
    """Write block_parameters(width, heads, hidden): how many parameters one block of the AR model has: attention with
    biases and with a norm for queries and one for keys, SwiGLU without biases, and two RMSNorms of one weight for each
    number."""
    _function(answer)
    more = answer(8, 2, 11) - answer(8, 2, 10)
    _number(more, 24, "SwiGLU has three matrices, so a hidden number more must cost 3 x width, at width 8 24")
    fewer = answer(8, 2, 10) - answer(8, 4, 10)
    norms = "The norms of queries and keys have width / heads weights each: from 2 heads to 4, at width 8, are 4 fewer"
    _number(fewer, 4, norms)
    plain = answer(8, 8, 0)
    _require(plain != 4 * 64 + 2 * 8 + 2, "The linear layers of attention have biases, 3 x width and width of them.")
    _number(plain, 306, "Width 8, 8 heads, no SwiGLU: qkv 216, out 72, two norms 16, two QK-norms 2, in all 306")
    for sizes in ((16, 2, 24), (24, 3, 64)):
        block = ARModel._block(ARConfig(width=sizes[0], heads=sizes[1], hidden=sizes[2]))
        count = sum(p.numel() for p in block.parameters())
        _number(answer(*sizes), count, f"A block of width, heads, hidden {sizes} has {count:,} parameters")


@exercise(
    "7.2",
    hint="Each layer keeps a key and a value of `width` numbers for every token of every row; guidance has two rows.",
    stub="""
def cache_bytes(depth, width, tokens, pictures, number_bytes, guided):
    return 0  # your code
""",
)
def cache_bytes(answer: Callable) -> None:
    """Write cache_bytes(depth, width, tokens, pictures, number_bytes, guided): how many bytes the KV cache of the AR
    model takes. number_bytes is 4 for float32 and 2 for bfloat16; guided is True or False."""
    _function(answer)
    _number(answer(1, 1, 1, 1, 1, False), 2, "One layer, one token, one number of one byte are a key and a value, 2")
    base = {"depth": 3, "width": 8, "tokens": 5, "pictures": 2, "number_bytes": 2}
    once = answer(*base.values(), False)
    for name, value in base.items():
        twice = answer(*(base | {name: 2 * value}).values(), False)
        _number(twice, 2 * once, f"Twice the {name} must take twice the bytes, {2 * once} instead of {once}")
    _number(once, 960, "3 layers of width 8 with 5 tokens of 2 pictures in 2 bytes take 960")
    guided = "Guidance reads every picture with class and without, so it must take twice the bytes"
    _number(answer(*base.values(), True), 2 * once, guided)


@exercise(
    "7.3",
    hint="A chain of key.replace(old, new). w1 goes through silu, w3 is multiplied with it, w2 leads back to width D.",
    stub="""
def our_name(key):
    return key  # your code
""",
)
def our_name(answer: Callable) -> None:
    """Write our_name(key): the name in this package of a tensor of an official AR model, such as
    "blocks.0.mlp.w1.weight"."""
    _function(answer)
    sizes = ARConfig(codebook_size=8, grid=2, prefix_tokens=3, classes=2, width=8, depth=12, heads=2, hidden=8)
    with torch.device("meta"):
        wanted = {official.official_ar_name(name): name for name in ARModel(sizes).state_dict()}
    for same in ("norm.weight", "output.bias", "blocks.0.norm1.weight"):
        _require(answer(same) == same, f"{same} has the same name in both; yours is {_short(answer(same))}.")
    for key, name in wanted.items():
        found = answer(key)
        _require(isinstance(found, str), f"our_name must return a string; for {key} it returns {_short(found)}.")
        swapped = ".mlp." in key and found != name and found in wanted.values()
        mixed = f"{key} is {_ROLES[name.split('.')[3]]}" if swapped else f"{key} must find its place"
        _require(found == name, f"{mixed}: {found} is not its name here.")


_ROLES = {
    "gate": "the one that goes through silu",
    "up": "the one that is multiplied with the gate",
    "down": "the one that leads back to the width",
}


# ---------------------------------------------------------------- 08, questions the reviewers asked


@exercise(
    "8.1",
    hint="p = counts / N; entropy -(p * p.log()).sum() over p > 0; then add (codes that were seen - 1) / (2 N).",
    stub="""
def corrected(counts):
    return 0.0  # your code
""",
)
def corrected(answer: Callable) -> None:
    """Write corrected(counts): the entropy in nats of codes that were counted (V,), plus (S - 1) / (2 N), where S codes
    were seen at all, N times in sum."""
    _function(answer)
    always = _plain(answer(torch.tensor([6])))
    _number(always, 0, "One code that is always used has no entropy, and one seen code no correction, so 0")
    even = torch.full((8,), 10**6)
    uniform = (
        "With millions of counts the correction is nothing: 8 equally frequent codes must have log(8) = 2.0794 nats"
    )
    _number(answer(even), torch.tensor(8.0).log().item(), uniform)
    few = "Two codes seen once each must have log(2) + (2 - 1) / (2 * 2) = 0.9431 nats"
    _number(answer(torch.tensor([1, 1])), torch.tensor(2.0).log().item() + 0.25, few)
    unused = _plain(answer(torch.tensor([1, 1, 0, 0])))
    _no_nan(unused)
    _number(unused, torch.tensor(2.0).log().item() + 0.25, "Codes that were never seen must change nothing")
    counts = torch.tensor([1, 2, 3, 4])
    wanted = torch.special.entr(counts / 10).sum().item() + 3 / 20
    _number(answer(counts), wanted, f"Counts 1, 2, 3, 4 must give {wanted:.4f}")


@exercise(
    "8.2",
    hint="torch.arange(grid**2).view(grid, grid) numbers the patches; row.flip(0) turns a row round; which rows?",
    stub="""
def snake(grid):
    return torch.arange(grid**2)  # your code
""",
)
def snake(answer: Callable) -> None:
    """Write snake(grid): the G*G patches, numbered row by row, in the order of a snake: first row from left to right,
    second from right to left, and so on."""
    _function(answer)
    found = _as_tensor(answer(4), "snake")
    _require(found.shape == (16,), f"snake(4) must name 16 patches, of shape (16,); yours has {tuple(found.shape)}.")
    once = sorted(found.tolist()) == list(range(16))
    _require(once, "Every patch from 0 to 15 must be visited once.")
    _tensor(found[:4], torch.arange(4), "The first row must go from left to right")
    last = f"After patch 3, at the end of the first row, the snake must go straight down to 7; yours goes to {found[4]}"
    _require(found[4] == 7, f"{last}.")
    steps = [
        abs(a % 4 - b % 4) + abs(a // 4 - b // 4) for a, b in zip(found.tolist(), found.tolist()[1:], strict=False)
    ]
    _require(max(steps) == 1, "A snake never jumps: each patch must be beside, above or below the one before it.")
    _tensor(answer(3), torch.tensor([0, 1, 2, 5, 4, 3, 6, 7, 8]), "The snake of a 3 x 3 grid must be 0 1 2 5 4 3 6 7 8")


@exercise(
    "8.3",
    hint="With a cache every token passes once: T. Without one, step t runs t positions again: 1 + 2 + ... + T.",
    stub="""
def positions(tokens, cache, guided):
    return 0  # your code
""",
)
def positions(answer: Callable) -> None:
    """Write positions(tokens, cache, guided): how many positions pass through the AR model while it draws one picture
    of T tokens, with a KV cache or without, with guidance (which reads every sentence twice) or without."""
    _function(answer)
    _number(answer(1, True, False), 1, "One token takes one position, that of the class, so 1")
    _number(answer(21, True, False), 21, "With a cache each of 21 steps runs one position, 21 in all")
    _number(answer(3, False, False), 6, "Without a cache three tokens take 1 + 2 + 3 = 6 positions")
    _number(answer(273, False, False), 273 * 137, "Without a cache 273 tokens take 273 * 274 / 2 = 37,401")
    _number(answer(21, True, True), 42, "Guidance reads with the class and without, so 21 tokens take 42 with a cache")
    _number(answer(3, False, True), 12, "Guidance doubles the 6 positions of three tokens without a cache to 12")
