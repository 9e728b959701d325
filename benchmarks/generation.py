"""Measure an exported LLM behind tritonserver against the same engine called directly; or let it soak."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from generation_clients import DirectEngine, Run, ServedModel
from generation_soak import soak
from local_stack import pick_ports
from report import DOCS, RESULTS, read_circumstances

from trireme.artifacts.config_writer import place_config
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.recipe import Recipe, read_recipe
from trireme.errors import TriremeError
from trireme.generate.chat import ChatTemplate
from trireme.generate.engine import EngineOptions
from trireme.generate.messages import Message
from trireme.generate.tokenizer import LlmTokenizer
from trireme.settings import read_settings
from trireme.triton.server import ServerConfig, TritonServer

SEED = 1
PROJECT = Path(__file__).resolve().parents[1]
BATCHED_TOKENS = 256
# A soak whose answers have at most so many tokens is one of many short requests.
SHORT = 16
MARKS = ("<!-- begin: benchmarks/generation.py -->", "<!-- end -->")


def main() -> int:
    """Prints a table; with --write also benchmarks/results/generation.json and docs/generation.md."""
    arguments = _read_arguments()
    try:
        with served_model(arguments) as (server, recipe, options):
            if arguments.soak:
                name = "soak" if arguments.longest > SHORT else "short_soak"
                soaked = soak(server, recipe.model, arguments.soak, SEED, arguments.longest)
                result: dict[str, Any] = {name: soaked}
            else:
                result = {"throughput": measure(arguments, server, recipe, options)}
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result, indent=1))
    if arguments.write:
        write(result, arguments)
    return 0


@contextmanager
def served_model(arguments: argparse.Namespace) -> Iterator[tuple[TritonServer, Recipe, EngineOptions]]:
    """A server over a copy of the model's folder, with places for the streams and a step of BATCHED_TOKENS."""
    source = arguments.model.resolve()
    streams = max(arguments.streams)
    with tempfile.TemporaryDirectory(prefix="trireme-") as folder:
        home = Path(folder) / "models" / source.name
        shutil.copytree(source, home, ignore=shutil.ignore_patterns(".lock"))
        recipe = dataclasses.replace(
            read_recipe(home / "recipe.toml"),
            max_num_seqs=streams,
            max_num_batched_tokens=BATCHED_TOKENS,
            kv_cache_gb=arguments.kv_cache_gb,
        )
        place_config(home, recipe)
        ports = pick_ports("127.0.0.1", 3)
        backends = read_settings().backend_directory
        log = Path(folder) / "log"
        config = ServerConfig("127.0.0.1", *ports, Path(folder) / "models", backends, log)
        length = read_manifest(home / "1").max_length
        options = EngineOptions(
            home / "1",
            (),
            length,
            max_num_seqs=streams,
            max_num_batched_tokens=BATCHED_TOKENS,
            kv_cache_gb=arguments.kv_cache_gb,
            threads=recipe.threads,
        )
        with TritonServer(config, os.environ) as server:
            server.wait_until_ready()
            yield server, recipe, options


def measure(
    arguments: argparse.Namespace, server: TritonServer, recipe: Recipe, options: EngineOptions
) -> list[dict[str, Any]]:
    """One row per number of streams: medians of runs that alternate between the two ways."""
    prompts = Prompts(options.model_dir, arguments.input)
    direct = DirectEngine(options)
    served = ServedModel(f"{server.config.host}:{server.config.grpc_port}", recipe.model)
    rows = []
    try:
        texts, ids = prompts.draw(max(arguments.streams))
        direct.run(ids, 4)
        served.run(texts, 4)
        for streams in arguments.streams:
            pairs: list[tuple[Run, Run]] = []
            for number in range(arguments.runs):
                texts, ids = prompts.draw(streams)
                if number % 2:
                    pairs.append((direct.run(ids, arguments.output), served.run(texts, arguments.output)))
                else:
                    last = served.run(texts, arguments.output)
                    pairs.append((direct.run(ids, arguments.output), last))
                print(
                    f"{streams} streams: direct {pairs[-1][0].tokens_per_second:.1f},"
                    f" served {pairs[-1][1].tokens_per_second:.1f} tokens/s",
                    file=sys.stderr,
                )
            rows.append(_row(streams, pairs))
    finally:
        served.close()
        direct.close()
    return rows


class Prompts:
    """Texts that do not repeat, about `tokens` long, and the ids that the served model makes of them."""

    def __init__(self, model_dir: Path, tokens: int) -> None:
        self._tokenizer = LlmTokenizer.load(model_dir)
        self._template = ChatTemplate.load(model_dir, self._tokenizer)
        self._words = sorted(set((PROJECT / "README.md").read_text(encoding="utf-8").split()))
        self._tokens = tokens
        self._random = random.Random(SEED)  # noqa: S311

    def draw(self, count: int) -> tuple[list[str], list[tuple[int, ...]]]:
        """`count` texts and their ids, the model's chat template around them where it has one."""
        texts = [self._text() for _ in range(count)]
        return texts, [self._encode(text) for text in texts]

    def _text(self) -> str:
        words: list[str] = []
        while len(self._tokenizer.encode(" ".join(words), add_special_tokens=False)) < self._tokens:
            words += self._random.choices(self._words, k=4)
        return " ".join(words)

    def _encode(self, text: str) -> tuple[int, ...]:
        if self._template is None:
            return self._tokenizer.encode(text, add_special_tokens=True)
        rendered = self._template.render([Message("user", text)])
        return self._tokenizer.encode(rendered, add_special_tokens=False)


def _row(streams: int, pairs: list[tuple[Run, Run]]) -> dict[str, Any]:
    def median(values: list[float]) -> float:
        return round(statistics.median(values), 3)

    return {
        "streams": streams,
        "direct_tokens_per_s": median([direct.tokens_per_second for direct, _ in pairs]),
        "served_tokens_per_s": median([served.tokens_per_second for _, served in pairs]),
        "ratio": median([served.tokens_per_second / direct.tokens_per_second for direct, served in pairs]),
        "ratios": [round(s.tokens_per_second / d.tokens_per_second, 3) for d, s in pairs],
        "direct_first_token_s": median([direct.first_token_s for direct, _ in pairs]),
        "served_first_token_s": median([served.first_token_s for _, served in pairs]),
    }


def write(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Adds the result to benchmarks/results/generation.json and the table to docs/generation.md."""
    path = RESULTS / "generation.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    circumstances = read_circumstances("benchmarks/generation.py", sys.argv[1:], SEED)
    versions = circumstances.versions | {"openvino-genai": metadata.version("openvino-genai")}
    circumstances = dataclasses.replace(circumstances, versions=versions)
    precision = read_manifest(arguments.model / "1").precision
    shown = {"model": arguments.model.name, "precision": precision, "input_tokens": arguments.input}
    shown |= {"output_tokens": arguments.output, **dataclasses.asdict(circumstances)}
    kept |= {name: {"measured": value, "circumstances": shown} for name, value in result.items()}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    page = DOCS / "generation.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text(f"{before}{MARKS[0]}\n{_section(kept)}{MARKS[1]}{after}", encoding="utf-8")


def _section(results: dict[str, Any]) -> str:
    lines = []
    if "throughput" in results:
        seen = results["throughput"]["circumstances"]
        lines += [
            f"Model `{seen['model']}` ({seen['precision']}), {seen['input_tokens']} tokens in and"
            f" {seen['output_tokens']} out, greedy; {seen['cpu']}, {seen['cores']} cores, load"
            f" {seen['load']:g} before the run; OpenVINO GenAI {seen['versions']['openvino-genai']},"
            f" tritonserver of nvidia-pytriton {seen['versions']['nvidia-pytriton']}; {seen['date']}."
            " Medians; the two ways alternate within one run, client and server share the cores.",
            "",
            "| streams | engine called directly, tokens/s | behind Triton, tokens/s | ratio"
            " | first token directly, s | behind Triton, s |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row['streams']} | {row['direct_tokens_per_s']:.1f} | {row['served_tokens_per_s']:.1f}"
            f" | {row['ratio']:.2f} | {row['direct_first_token_s']:.2f} | {row['served_first_token_s']:.2f} |"
            for row in results["throughput"]["measured"]
        ]
        lines.append("")
    for name, lengths in (("soak", "mixed lengths"), ("short_soak", "short requests")):
        if name in results:
            lines += _soak_lines(results[name]["measured"], lengths)
    return "\n".join(lines)


def _soak_lines(soaked: dict[str, Any], lengths: str) -> list[str]:
    lines = [
        f"Soak, {soaked['seconds']:.0f} s of {lengths}, cancels and bad requests"
        f" ({soaked['requests']} requests, {soaked['cancelled']} cancelled, {soaked['refused']} refused,"
        f" {soaked['failed']} failed): memory of the server's processes {soaked['rss_mb_early']:.0f} MB"
        f" after the first tenth, {soaked['rss_mb_late']:.0f} MB in the last tenth,"
        f" {soaked['rss_mb_most']:.0f} MB at most.",
        "",
    ]
    parts = soaked.get("parts", [])
    if not parts:
        return lines
    # Where it began, and quarter by quarter.
    shown = [parts[round(share * (len(parts) - 1))] for share in (0, 0.25, 0.5, 0.75, 1)]
    names = [name for name in parts[-1] if name.endswith("private")]
    lines += [f"| after requests | {' | '.join(f'{name}, MB' for name in names)} |"]
    lines += ["| ---: " * (len(names) + 1) + "|"]
    lines += [
        f"| {part['requests']:,.0f} | {' | '.join(f'{part.get(name, 0):.1f}' for name in names)} |"
        for part in shown
    ]
    return [*lines, ""]


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="an exported model's folder, with recipe.toml and version 1")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--input", type=int, default=128, help="tokens of a prompt, about")
    parser.add_argument("--output", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--kv-cache-gb", type=float, default=0.5)
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS", help="mixed requests instead")
    parser.add_argument("--longest", type=int, default=256, help="tokens of the longest answer of a soak")
    parser.add_argument("--write", action="store_true", help="write results and docs/generation.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
