"""`trireme serve` and the other commands, as a newcomer runs them."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from stacks import ROOT, Serving, environment_of, settings_on_free_ports, wait_until


def test_serve_says_what_is_served_and_which_commands_to_try(serving):
    for model in ("embedding", "retriever", "search"):
        assert model in serving.output
    for command in ("trireme search", "trireme ingest", "curl"):
        assert command in serving.output
    assert "Traceback" not in serving.output


def test_search_prints_ranked_passages_with_scores_and_sources(serving):
    done = serving.run("search", "what does the dynamic batcher wait for?")
    assert done.returncode == 0, done.stderr
    assert re.match(r" 1\. \d\.\d{3}  \S*batching\.md", done.stdout), done.stdout
    assert "microseconds" in done.stdout


def test_the_printed_curl_command_works(serving):
    line = next(line for line in serving.output.splitlines() if "curl" in line)
    path, body = re.search(r"(/v2/models/search/generate) -d '(.*)'", line).groups()
    import urllib.request

    url = f"http://127.0.0.1:{serving.settings.http_port}{path}"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode())) as answer:
        assert len(json.load(answer)["id"]) == 3


def test_models_shows_precision_size_quality_and_readiness(serving):
    done = serving.run("models")
    row = next(line for line in done.stdout.splitlines() if line.startswith("embedding"))
    assert "int8" in row
    assert "MB" in row
    assert "cosine" in row
    assert row.rstrip().endswith("yes")


def test_models_and_ready_ask_the_server_wherever_they_run(serving, tmp_path):
    environment = {**environment_of(serving.settings), "TRIREME_MODEL_REPOSITORY": "model_repository"}
    for command, said in (("models", "yes"), ("ready", "ready")):
        words = [sys.executable, "-m", "trireme.cli", command]
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        for model in ("embedding", "llm", "search"):
            row = next(line for line in done.stdout.splitlines() if line.startswith(model))
            assert row.rstrip().endswith(said)
        assert "not built" not in done.stdout


def test_ready_exits_with_zero_when_everything_answers(serving):
    done = serving.run("ready")
    assert done.returncode == 0, done.stdout
    assert "retriever: ready" in done.stdout


def test_an_ingested_file_is_found_in_its_collection_and_dropped_with_it(serving, tmp_path):
    (tmp_path / "note.txt").write_text("The harbour master keeps the keys of the boathouse.")
    (tmp_path / "photo.raw").write_bytes(b"\x00\x01")
    done = serving.run("ingest", str(tmp_path), "--collection", "notes")
    assert done.returncode == 0, done.stderr
    assert "Indexed 1 documents into 'notes'" in done.stdout
    assert "it holds 1 passages" in done.stdout
    assert "skipped 1 of unknown type .raw" in done.stdout
    assert "boathouse" in serving.run("search", "who has the keys?", "--collection", "notes").stdout
    assert re.search(r"notes +1 ", serving.run("collections").stdout)
    assert "Dropped 'notes': 1 passages" in serving.run("drop", "notes").stdout
    done = serving.run("search", "who has the keys?", "--collection", "notes")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "no collection 'notes'" in done.stderr


def test_a_path_that_does_not_exist_is_named(serving):
    done = serving.run("ingest", "no-such-folder")
    assert done.returncode == 1
    assert "no-such-folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_server_on_the_same_ports_is_refused_and_the_first_goes_on(serving):
    done = serving.run("serve")
    assert done.returncode == 1
    assert "TRIREME_HTTP_PORT" in done.stderr
    assert serving.run("search", "oars").returncode == 0


def test_an_embedded_database_that_dies_is_started_again(serving):
    pid_file = serving.settings.data_dir / "postgres/cluster/postmaster.pid"
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    wait_until(lambda: "starting it again" in serving.output)
    wait_until(lambda: serving.run("search", "what does the dynamic batcher wait for?").returncode == 0)


def test_ctrl_c_stops_every_process_and_a_second_start_finds_the_index(tmp_path, corpus):
    settings = settings_on_free_ports(tmp_path / "data")
    first = Serving(settings, corpus)
    first.wait_until_ready()
    assert "Indexed" in first.output
    postmaster = int((settings.data_dir / "postgres/cluster/postmaster.pid").read_text().split()[0])
    family = first.interrupt()
    names = {process.pid for process in family}
    assert len(names) >= 2
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
    assert not psutil.pid_exists(postmaster)

    second = Serving(settings, corpus)
    second.wait_until_ready()
    assert "Indexed" not in second.output
    assert "oars" in second.run("search", "banks of oars").stdout
    second.interrupt()


@pytest.mark.parametrize("command", ["serve", "models", "ready"])
def test_an_unknown_setting_stops_every_command_and_is_named(command):
    done = subprocess.run(
        [sys.executable, "-m", "trireme.cli", command],
        env=os.environ | {"TRIREME_GRCP_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown setting TRIREME_GRCP_PORT")


def test_search_without_a_server_says_how_to_start_one(tmp_path):
    settings = settings_on_free_ports(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "trireme.cli", "search", "x"],
        env=environment_of(settings),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "make serve" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_env_makes_tritonserver_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "trireme.cli", "env"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("export ") for line in done.stdout.splitlines())
    script = 'eval "$1" && command -v tritonserver'
    found = subprocess.run(["/bin/sh", "-c", script, "sh", done.stdout], capture_output=True, text=True)
    assert Path(found.stdout.strip()).name == "tritonserver"
