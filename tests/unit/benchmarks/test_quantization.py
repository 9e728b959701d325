import quantization
from quantization import METHODS, folder_of, main, measure_rate
from quantization_report import name_method

from trireme.generate.engine import Chunk
from trireme.quantize.gate import DEFAULTS
from trireme.quantize.recipe import make_recipe


def test_every_row_has_a_method_with_thresholds_and_a_folder_of_its_own(tmp_path):
    assert {(method, bits) for method, bits, _ in METHODS.values()} == set(DEFAULTS)
    assert len({folder_of(tmp_path, name) for name in METHODS}) == len(METHODS)


def test_a_row_is_called_what_its_checkpoint_is():
    for name, (method, bits, flags) in METHODS.items():
        given = dict(
            zip((flag[2:].replace("-", "_") for flag in flags[::2]), map(int, flags[1::2]), strict=True)
        )
        recipe = make_recipe({"source": "x", "method": method, **given}, None)
        assert (name_method((method, bits, recipe.group)), recipe.width) == (name, bits)


class Replies:
    """An engine that gives every request two tokens in the first step and the rest in the second."""

    def __init__(self):
        self.submitted = []
        self.engine = self

    def submit(self, request):
        self.submitted.append(request)

    @property
    def steps(self):
        names = [request.request_id for request in self.submitted]
        rest = quantization.OUTPUT_TOKENS - 2
        yield_first = [Chunk(name, (5, 6)) for name in names]
        yield_last = [Chunk(name, (7,) * rest, "length") for name in names]
        if not hasattr(self, "_steps"):
            self._steps = iter([yield_first, yield_last])
        return self._steps


def test_a_rate_counts_the_tokens_of_all_streams(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(quantization.time, "perf_counter", lambda: next(clock))
    engine = Replies()
    assert measure_rate(engine, 4, turn=1) == 4 * quantization.OUTPUT_TOKENS / 2.0
    assert len({request.prompt for request in engine.submitted}) == 4
    assert {len(request.prompt) for request in engine.submitted} == {quantization.PROMPT_TOKENS}


def test_without_texts_or_an_environment_the_script_ends_with_one_sentence(tmp_path, capsys):
    assert main([]) == 1
    assert "give --calibration and --eval" in capsys.readouterr().err
    words = ["--calibration", "a", "--eval", "b", "--only", "none", "--work", str(tmp_path)]
    assert main([*words, "--quantizer", str(tmp_path / "python")]) == 1
    assert "make quantize-env" in capsys.readouterr().err
