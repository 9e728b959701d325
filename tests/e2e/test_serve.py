"""`trireme serve` and the other commands, as a newcomer runs them."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from stacks import ROOT, Serving, environment_of, link_models, settings_on_free_ports, wait_until


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


def first_key(output):
    """The secret in the line that a reader copies."""
    (found,) = re.findall(r"OPENAI_API_KEY=(tr-\S+)", output)
    return found


def status_of(settings, key, path="/v1/models"):
    """The status of what the gateway answers to a key; None while nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", settings.gateway_port, timeout=30)
    with closing(connection):
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {key}"})
            return connection.getresponse().status
        except OSError:
            return None


def test_serve_says_where_the_gateway_is_and_prints_a_key_that_opens_it(serving):
    url = f"http://127.0.0.1:{serving.settings.gateway_port}/v1"
    lines = serving.output.splitlines()
    assert f"Gateway: {url}" in lines
    assert f"  export OPENAI_BASE_URL={url} OPENAI_API_KEY={first_key(serving.output)}" in lines
    # The gateway reads its keys each second.
    wait_until(lambda: status_of(serving.settings, first_key(serving.output)) == 200)
    assert status_of(serving.settings, "tr-wrong") == 401


def test_the_first_start_prints_a_link_with_an_admins_key_that_no_log_keeps(serving):
    (secret,) = re.findall(
        rf"^Console: http://127\.0\.0\.1:{serving.settings.gateway_port}/console/#key=(tr-\S+)$",
        serving.output,
        re.MULTILINE,
    )
    wait_until(lambda: status_of(serving.settings, secret) == 200)
    assert status_of(serving.settings, secret, "/v1/tenants") == 200
    assert status_of(serving.settings, first_key(serving.output), "/v1/tenants") == 403
    logs = list((serving.settings.data_dir / "logs").iterdir())
    assert any(log.name == "gateway.log" for log in logs)
    for log in logs:
        assert secret.encode() not in log.read_bytes()


def test_a_key_is_in_force_soon_after_it_was_made_and_no_longer_soon_after_it_was_revoked(serving):
    made = serving.run("keys", "create", "--tenant", "acme", "--user", "ann")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    key = re.search(r"key_[0-9a-f]+", made.stderr).group()
    wait_until(lambda: status_of(serving.settings, secret) == 200)
    listed = serving.run("keys", "list", "--tenant", "acme").stdout
    assert key in listed
    assert secret not in listed
    assert serving.run("keys", "revoke", key).returncode == 0
    wait_until(lambda: status_of(serving.settings, secret) == 401)
    # It names them for people, and shows none of them.
    log = (serving.settings.data_dir / "logs" / "gateway.log").read_text()
    assert key in log
    assert secret not in log


def words_of(process):
    """Its command; none of a process that ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_gateway_that_is_killed_is_started_again(serving):
    (gateway,) = [
        child for child in psutil.Process(serving.process.pid).children() if "gateway" in words_of(child)
    ]
    gateway.kill()
    wait_until(lambda: "The gateway ended; starting it again." in serving.output)
    wait_until(lambda: status_of(serving.settings, first_key(serving.output)) == 200)


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


def test_a_gateways_port_that_is_taken_is_named_before_anything_starts(tmp_path):
    settings = settings_on_free_ports(tmp_path / "data")
    with socket.create_server(("127.0.0.1", settings.gateway_port)):
        done = subprocess.run(
            [sys.executable, "-m", "trireme.cli", "serve"],
            env=environment_of(settings),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert "TRIREME_GATEWAY_PORT" in done.stderr
    assert not (settings.data_dir / "postgres").exists()


def test_a_gateway_file_that_cannot_be_read_is_named_before_anything_starts(tmp_path):
    (tmp_path / "gateway.toml").write_text("[models.a]\nchain = []\n")
    settings = settings_on_free_ports(tmp_path / "data", gateway_file=tmp_path / "gateway.toml")
    done = subprocess.run(
        [sys.executable, "-m", "trireme.cli", "serve"],
        env=environment_of(settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "gateway.toml: models.a.chain is empty" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not settings.data_dir.exists()


def test_a_gateway_whose_supervisor_was_killed_leaves_its_port_to_the_next_one(tmp_path):
    settings = settings_on_free_ports(tmp_path / "data", model_repository=link_models(tmp_path / "models"))
    first = Serving(settings)
    first.wait_until_ready()
    left = psutil.Process(first.process.pid).children(recursive=True)
    first.process.kill()
    first.process.wait()
    second = Serving(settings)
    try:
        second.wait_until_ready()
        wait_until(lambda: status_of(settings, first_key(first.output)) == 200)
    finally:
        second.stop()
    _, alive = psutil.wait_procs(left, timeout=60)
    assert not alive


def test_an_embedded_database_that_dies_is_started_again(serving):
    pid_file = serving.settings.data_dir / "postgres/cluster/postmaster.pid"
    told = serving.output.count("starting it again")
    os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
    wait_until(lambda: serving.output.count("starting it again") > told)
    wait_until(lambda: serving.run("search", "what does the dynamic batcher wait for?").returncode == 0)


def test_ctrl_c_stops_every_process_and_a_second_start_finds_the_index(tmp_path, corpus):
    settings = settings_on_free_ports(tmp_path / "data", model_repository=link_models(tmp_path / "models"))
    first = Serving(settings, corpus)
    first.wait_until_ready()
    assert "Indexed" in first.output
    assert first_key(first.output)
    postmaster = int((settings.data_dir / "postgres/cluster/postmaster.pid").read_text().split()[0])
    family = first.interrupt()
    names = {process.pid for process in family}
    assert len(names) >= 2
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert not psutil.pid_exists(postmaster)

    second = Serving(settings, corpus)
    second.wait_until_ready()
    assert "Indexed" not in second.output
    assert "Gateway: " in second.output
    assert "API_KEY" not in second.output
    assert f"Console: http://127.0.0.1:{settings.gateway_port}/console/\n" in second.output
    assert "trireme keys create --admin" in second.output
    assert "oars" in second.run("search", "banks of oars").stdout
    second.interrupt()


@pytest.mark.parametrize("command", ["serve", "models", "ready"])
def test_an_unknown_setting_stops_every_command_and_is_named(command):
    done = subprocess.run(
        [sys.executable, "-m", "trireme.cli", command],
        env=os.environ | {"TRIREME_GRCP_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
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
        timeout=120,
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
