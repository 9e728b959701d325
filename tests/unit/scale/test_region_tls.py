import json

import pytest

from trireme.errors import SettingError
from trireme.scale.region_tls import CERTIFICATE, PEERS, cluster_tls, listener_tls, secrets, write_secrets
from trireme.scale.region_values import Region, RegionTls

TLS = RegionTls("/tls/tls.crt", "/tls/tls.key", "/ca/ca.crt")
OTHERS = [Region("a", "a.example.org", 8010), Region("b", "10.0.0.1", 8010), Region("c")]


def test_certificate_and_key_are_read_together_once_their_folder_changes():
    (made,) = secrets(TLS, OTHERS)[CERTIFICATE]["resources"]
    assert made["tls_certificate"] == {
        "certificate_chain": {"filename": "/tls/tls.crt"},
        "private_key": {"filename": "/tls/tls.key"},
        "watched_directory": {"path": "/tls"},
    }


def test_peers_are_those_of_the_authority_that_have_the_name_of_a_balancer():
    (made,) = secrets(TLS, OTHERS)[PEERS]["resources"]
    peers = made["validation_context"]
    assert peers["trusted_ca"] == {"filename": "/ca/ca.crt"}
    assert peers["match_typed_subject_alt_names"] == [
        {"san_type": "DNS", "matcher": {"exact": "a.example.org"}},
        {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.1"}},
    ]


def test_a_region_that_knows_no_other_takes_every_certificate_of_the_authority():
    (made,) = secrets(TLS, [])[PEERS]["resources"]
    assert "match_typed_subject_alt_names" not in made["validation_context"]


def test_both_sides_prove_who_they_are(tmp_path):
    listener, cluster = listener_tls(tmp_path)["typed_config"], cluster_tls(tmp_path)["typed_config"]
    assert listener["require_client_certificate"] is True
    for side in (listener, cluster):
        context = side["common_tls_context"]
        sources = [
            *context["tls_certificate_sds_secret_configs"],
            context["validation_context_sds_secret_config"],
        ]
        paths = [one["sds_config"]["path_config_source"]["path"] for one in sources]
        assert paths == [str(tmp_path / f"{name}.json") for name in (CERTIFICATE, PEERS)]


def test_the_files_are_written_and_a_folder_that_is_not_there_is_named(tmp_path):
    write_secrets(tmp_path, TLS, OTHERS)
    assert json.loads((tmp_path / f"{PEERS}.json").read_text()) == secrets(TLS, OTHERS)[PEERS]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.json" for name in (CERTIFICATE, PEERS)
    )
    with pytest.raises(SettingError, match="nowhere"):
        write_secrets(tmp_path / "nowhere", TLS, OTHERS)
