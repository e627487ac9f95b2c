"""The benchmark: its arithmetic, and a run on a CPU."""

import json
import sys

import pytest
import torch
from conftest import small_ar, small_tokenizer
from test_data import complete

from alitok_lite.__main__ import main
from alitok_lite.core.config import PRESETS, Preset
from alitok_lite.core.tokenizer import Tokenizer
from alitok_lite.packed import PackedLinear, packed
from alitok_lite.study import bench, official, techniques

TOKENIZER = small_tokenizer()
PRESET = Preset(TOKENIZER, small_ar(TOKENIZER))

PATHS = ("plain", *(["fast"] * isinstance(packed(torch.nn.Linear(2, 2)), PackedLinear)))  # on this CPU


def test_work_of_the_official_model():
    """What was worked out by hand for a step: 346 MB of weights, 73.7 kB of cache for a position and row."""
    config = PRESETS["alitok-b"].ar
    one, two = (bench.ar_work(config, rows, 2) for rows in (1, 2))
    positions = config.tokens * (config.tokens + 1) // 2
    cache = two["bytes"] - one["bytes"]
    assert cache / positions == pytest.approx(73_728)
    assert (one["bytes"] - cache) / config.tokens == pytest.approx(346e6, rel=0.01)
    assert two["flop"] == pytest.approx(2 * one["flop"])


def test_work_counts_what_the_model_multiplies():
    """Of one teacher-forced pass, less attention, which PyTorch counts over all pairs and we over those that see."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from alitok_lite.core.ar import ARModel

    config = PRESET.ar
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        ARModel(config).eval()(torch.zeros(1, config.tokens, dtype=torch.long))
    all_pairs = 4 * config.depth * config.width * config.tokens**2
    seeing = 2 * config.depth * config.width * config.tokens * (config.tokens + 1)
    assert bench.ar_work(config, 1, 4)["flop"] - seeing == counter.get_total_flops() - all_pairs


def test_bound_is_the_slower_of_both():
    assert bench.bound({"bytes": 10.0, "flop": 100.0}, {"bytes": 5.0, "flop": 1000.0}) == 2
    assert bench.bound({"bytes": 10.0, "flop": 100.0}, {"bytes": 5.0, "flop": 10.0}) == 10


def test_bench_on_a_cpu(monkeypatch):
    monkeypatch.setattr(bench, "rates", lambda device, dtype: {"bytes": 1e10, "flop": 1e10})
    results = bench.bench(PRESET, [1, 3], torch.device("cpu"), torch.float32, repeats=2)
    assert [(row["pictures"], row["path"]) for row in results["rows"]] == [(n, path) for n in (1, 3) for path in PATHS]
    for row in results["rows"]:
        assert row["seconds"] == row["draw"] + row["decode"]
        assert row["images_per_second"] == pytest.approx(row["pictures"] / row["seconds"])
        assert row["share_of_bound"] == pytest.approx(row["bound"] / row["seconds"])
    assert results["encoded_per_second"] > 0 and results["versions"]["torch"] == torch.__version__
    lines = bench.table(results).splitlines()
    assert len(lines) == 2 + 2 * len(PATHS) and len(set(map(len, lines[:-1]))) == 1


def test_caching_encodes_all_crops(tmp_path, monkeypatch):
    complete(tmp_path, {"a": 3, "b": 2}, TOKENIZER.image_size)
    encoded, encode = [], Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, pixels: encoded.append(len(pixels)) or encode(self, pixels))
    monkeypatch.setattr(bench, "timed", lambda work, device, repeats: [work() or 2.0])
    assert bench.caching(PRESET, str(tmp_path), torch.device("cpu"), torch.float32) == 25
    assert sum(encoded) == 50


def test_command_with_files(tmp_path, capsys):
    complete(tmp_path / "pictures", {"a": 3, "b": 2}, 64)
    options = ["--preset", "tiny", "--batch", "1", "--repeats", "1", "--device", "cpu"]
    assert main(["bench", *options, "--data", str(tmp_path / "pictures"), "--json", str(tmp_path / "b.json")]) == 0
    assert json.loads((tmp_path / "b.json").read_text())["cached_per_second"] > 0
    assert "from files" in capsys.readouterr().out
    assert main(["bench", *options, "--data", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "bench", lambda *arguments: {"arguments": [str(a) for a in arguments[1:]]})
    monkeypatch.setattr(bench, "table", lambda results: "a table")
    path = tmp_path / "b.json"
    assert main(["bench", "--preset", "tiny", "--batch", "2,4", "--device", "cpu", "--json", str(path)]) == 0
    assert capsys.readouterr().out == "a table\n"
    assert json.loads(path.read_text()) == {
        "preset": "tiny",
        "arguments": ["[2, 4]", "cpu", "torch.float32", "3", "None"],
    }


@pytest.mark.parametrize("wrong", [["--batch", "0"], ["--batch", "two"], ["--batch", ""], ["--repeats", "0"]])
def test_wrong_arguments(wrong, capsys):
    assert main(["bench", "--device", "cpu", *wrong]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and wrong[0] in error


def test_prediction_counts_kernels_and_bytes():
    """AliTok-B's 346 MB and 73.7 kB, see above, for two rows. A mask reads 273 entries; 137 are there on average."""
    config, rate = PRESETS["alitok-b"].ar, 4e12
    graph, launched = (techniques.Stage("", techniques.PLAIN, graph, False) for graph in (True, False))
    least = 273 * (346e6 + 2 * 73_728 * 137) / rate
    assert techniques.predicted(config, graph, 2, 2, 0, rate) == pytest.approx(least, rel=0.01)
    assert techniques.predicted(config, graph, 2, 2, 400, rate) == pytest.approx(least + 0.1092, rel=0.01)
    assert techniques.predicted(config, launched, 2, 2, 400, rate) == pytest.approx(least + 0.546, rel=0.01)
    masked = techniques.Stage("", techniques.PLAIN, True, True)
    more = 273 * 2 * 73_728 * 136 / rate
    assert techniques.predicted(config, masked, 2, 2, 0, rate) == pytest.approx(least + more, rel=0.01)


def test_techniques_are_timed_and_told():
    """On a CPU with the one stage that runs there."""
    plain = techniques.Stage("plainly", techniques.PLAIN, False, True)
    ar = bench.random_model(PRESET, torch.device("cpu"), torch.float32).ar.eval()
    found, ids = techniques.measure(ar, plain, 3, 2)
    assert found["draw"] > 0 and found["kernels"] == 0 and ids.shape == (3, PRESET.ar.tokens)
    rows = [{"stage": "plainly", "pictures": 3, "predicted": 0.5} | found]
    lines = techniques.table({"rows": rows}).splitlines()
    assert len(lines) == 2 and len(lines[0]) == len(lines[1]) and "0.500" in lines[1]


def test_techniques_need_a_gpu(capsys):
    assert main(["bench", "--device", "cpu", "--techniques"]) == 2
    assert capsys.readouterr().err == ("alitok_lite: the techniques are for a CUDA GPU, and the device is 'cpu'\n")


OFFICIAL = {
    "modeling/__init__.py": "",
    "utils/sizes.py": "WORD = 'ours'",
    "modeling/ar.py": """
import torch
from utils.sizes import WORD
from alitok_lite import ARConfig
from alitok_lite.core.ar import ARModel as Inner
calls = []

class ARModel(Inner):
    def __init__(self, config):
        assert WORD == "ours" and config.model.generator.get("use_checkpoint", False) is False
        sizes = config.model.generator
        super().__init__(ARConfig(
            config.model.vq_model.codebook_size, 4, 5, sizes.condition_num_classes, sizes.hidden_size,
            sizes.num_hidden_layers, sizes.num_attention_heads, 344, sizes.dropout))

    def generate(self, condition, guidance_scale, randomize_temperature, guidance_scale_pow, kv_cache=True, **kwargs):
        calls.append((condition.tolist(), guidance_scale, kv_cache, torch.backends.cuda.matmul.allow_tf32))
        return torch.randint(self.config.codebook_size, (len(condition), self.config.tokens))
""",
    "modeling/alitok.py": """
from alitok_lite.core.config import PRESETS
from alitok_lite.core.tokenizer import Tokenizer

class AliTok(Tokenizer):
    def __init__(self):
        super().__init__(PRESETS["tiny"].tokenizer, (2,))

    def decode_tokens(self, ids):
        return self.decode(ids)
""",
}


def checkout(folder, **changes):
    """A folder that has modules of the official code's names; a change to None leaves a file out."""
    for name, text in (OFFICIAL | {f"modeling/{key}.py": text for key, text in changes.items()}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_official_code_is_timed_in_the_same_run(tmp_path, capsys):
    path, modules = list(sys.path), set(sys.modules)
    options = ["--preset", "tiny", "--batch", "2,1", "--repeats", "2", "--device", "cpu"]
    options += ["--official", str(checkout(tmp_path / "code")), "--json", str(tmp_path / "b.json")]
    assert main(["bench", *options]) == 0
    results = json.loads((tmp_path / "b.json").read_text())
    found = [(row["pictures"], row["path"]) for row in results["rows"]]
    assert found == [(n, path) for n in (2, 1) for path in ("official", *PATHS)]
    assert all(row["share_of_bound"] == pytest.approx(row["bound"] / row["seconds"]) for row in results["rows"])
    assert results["rows"][0]["tokens_per_second"] == pytest.approx(42 / results["rows"][0]["draw"])
    assert "official" in capsys.readouterr().out and "official_commit" in results
    assert sys.path == path and not {"modeling", "modeling.ar", "utils"} & (set(sys.modules) - modules)


def test_official_code_is_called_as_it_wants(tmp_path):
    code = official.load(checkout(tmp_path), PRESETS["tiny"])
    ids = code.draw([3, 1])
    assert code.decode(ids).shape == (2, 3, 64, 64) and code.ar.output.weight.std() > 0 and not code.ar.training
    assert type(code.ar).generate.__globals__["calls"] == [([3, 1], 2.0, True, True)]
    assert torch.backends.cuda.matmul.allow_tf32 is False


@pytest.mark.parametrize(
    "preset, changes, word",
    [
        ("tiny", {"ar": None}, "no modeling/ar.py"),
        ("tiny", {"alitok": None}, "no modeling/alitok.py"),
        ("tiny", {"ar": "import no_such_module_anywhere"}, "no_such_module_anywhere"),
        ("tiny", {"ar": "ARModel = 1"}, "builds no models"),
        ("tiny", {"alitok": "def AliTok(: pass"}, "cannot be imported"),
        ("scenes", {}, "choose one of alitok-b"),
    ],
)
def test_wrong_official_code(tmp_path, monkeypatch, capsys, preset, changes, word):
    monkeypatch.setattr(bench, "timed", lambda *_: pytest.fail("nothing may be timed"))
    options = ["--preset", preset, "--device", "cpu", "--official", str(checkout(tmp_path, **changes))]
    assert main(["bench", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and word in error and "--official" in error


@pytest.mark.parametrize("options", [["no/such/folder"], [""], [".", "--techniques"]])
def test_no_official_code(monkeypatch, capsys, options):
    monkeypatch.setattr(bench, "timed", lambda *_: pytest.fail("nothing may be timed"))
    assert main(["bench", "--device", "cpu", "--official", *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--official" in error
