import pytest

from fakes.cascade_gateways import file_of, place
from trireme.access.keys import Key
from trireme.errors import NotFoundError, PermissionDeniedError, SettingError
from trireme.gateway.cascades.plan import read_cascades
from trireme.gateway.chains import Chains, choose_collection
from trireme.gateway.file import parse_gateway_file
from trireme.providers.models import ServedModel
from trireme.providers.port import AttemptLimits
from trireme.providers.targets import Entry

FILE = """
[providers.openai]
kind = "openai"
region = "us"
[providers.mistral]
kind = "openai"
region = "eu"
[models.assistant]
chain = ["llm", "openai:gpt", "mistral:large"]
[models.cloud]
chain = ["openai:gpt"]
[tenants.bank]
forbid_regions = ["us"]
[tenants.own]
forbid_providers = ["openai", "mistral"]
"""
SERVED = {"llm": ServedModel("llm", "chat", True), "rag": ServedModel("rag", "answer", True)}
ANYONE = Key("k", "acme")


@pytest.fixture
def chains():
    file = parse_gateway_file(FILE.encode(), "gateway.toml")
    return Chains(
        file, {name: Entry(name, (), AttemptLimits(), row.region) for name, row in file.providers.items()}
    )


def labels(chain):
    return [target.label for target in chain.targets]


def test_a_model_of_the_file_is_its_chain_in_order(chains):
    assert labels(chains.find("assistant", ANYONE, SERVED)) == ["local:llm", "openai:gpt", "mistral:large"]


def test_a_served_model_needs_no_line_in_the_file(chains):
    assert labels(chains.find("rag", ANYONE, SERVED)) == ["local:rag"]


def test_a_provider_before_a_colon_is_asked_directly(chains):
    assert labels(chains.find("openai:ft:x", ANYONE, SERVED)) == ["openai:ft:x"]


@pytest.mark.parametrize("model", ["gpt", "nobody:gpt", "openai:", ":gpt", "", "LLM"])
def test_a_model_that_nobody_has_is_not_found(chains, model):
    with pytest.raises(NotFoundError, match="/v1/models"):
        chains.find(model, ANYONE, SERVED)


def test_while_triton_is_away_a_name_may_be_its_model(chains):
    assert labels(chains.find("anything", ANYONE, None)) == ["local:anything"]


def test_what_a_tenant_forbids_is_skipped_and_named(chains):
    chain = chains.find("assistant", Key("k", "bank"), SERVED)
    assert labels(chain) == ["local:llm", "mistral:large"]
    assert chain.forbidden == ("openai:gpt",)


def test_a_model_without_an_allowed_provider_is_refused_with_the_rule(chains):
    with pytest.raises(PermissionDeniedError, match="'bank' forbids every provider"):
        chains.find("cloud", Key("k", "bank"), SERVED)
    with pytest.raises(PermissionDeniedError):
        chains.find("openai:gpt", Key("k", "own"), SERVED)


def test_a_key_of_some_models_is_told_which_ones(chains):
    key = Key("k", "acme", models=("rag",))
    assert labels(chains.find("rag", key, SERVED)) == ["local:rag"]
    with pytest.raises(PermissionDeniedError, match="it may use: rag"):
        chains.find("assistant", key, SERVED)


def test_a_key_limited_to_a_chain_does_not_open_the_chains_targets(chains):
    key = Key("k", "acme", models=("assistant",))
    assert labels(chains.find("assistant", key, SERVED))[0] == "local:llm"
    for model in ("llm", "openai:gpt", "local:llm"):
        with pytest.raises(PermissionDeniedError):
            chains.find(model, key, SERVED)


def test_names_are_those_that_the_key_may_use_each_once(chains):
    assert chains.names(ANYONE, SERVED) == ["assistant", "cloud", "llm", "rag"]
    assert chains.names(Key("k", "t", models=("rag", "gone")), SERVED) == ["rag"]


def test_a_collection_is_the_one_asked_for_if_the_key_may_use_it():
    some = Key("k", "t", collections=("b", "a"))
    assert choose_collection(ANYONE, None, "default") == "default"
    assert choose_collection(ANYONE, "x", "default") == "x"
    assert choose_collection(some, None, "default") == "b"
    assert choose_collection(some, None, "a") == "a"
    assert choose_collection(some, "a", "default") == "a"
    with pytest.raises(PermissionDeniedError, match="b, a"):
        choose_collection(some, "default", "default")


def test_a_provider_is_named_directly_also_before_triton_was_ever_asked(chains):
    assert labels(chains.find("openai:gpt", ANYONE, None)) == ["openai:gpt"]
    assert labels(chains.find("llm", ANYONE, None)) == ["local:llm"]


def test_a_name_that_is_too_long_is_nobodys(chains):
    for served in (SERVED, None):
        with pytest.raises(NotFoundError):
            chains.find("openai:" + "x" * 300, ANYONE, served)
    with pytest.raises(NotFoundError):
        chains.check_own("x" * 300, ANYONE)


def test_a_region_is_forbidden_in_whatever_letters():
    file = parse_gateway_file(
        FILE.replace('forbid_regions = ["us"]', 'forbid_regions = ["US"]').encode(), "x"
    )
    entries = {name: Entry(name, (), AttemptLimits(), row.region) for name, row in file.providers.items()}
    with pytest.raises(PermissionDeniedError):
        Chains(file, entries).find("cloud", Key("k", "bank"), SERVED)


def test_names_leave_out_what_the_tenants_rules_leave_nobody_for(chains):
    assert chains.names(Key("k", "bank"), SERVED) == ["assistant", "llm", "rag"]


STEPS = (
    {"name": "small", "target": "llm", "calibration": "small.json"},
    {"name": "big", "chain": ["openai:gpt", "mistral:large"]},
)
PROVIDERS = {
    name: {"kind": "openai", "region": region} for name, region in (("openai", "us"), ("mistral", "eu"))
}


def cascade_chains(folder, **rule):
    place(folder)
    text = file_of(STEPS, PROVIDERS) + "\n[tenants.bank]\n" + "".join(f"{k} = {v}\n" for k, v in rule.items())
    file = parse_gateway_file(text.encode(), "gateway.toml")
    entries = {name: Entry(name, (), AttemptLimits(), row.region) for name, row in file.providers.items()}
    return file, entries, read_cascades(file, folder / "gateway.toml")


def test_a_cascade_is_its_steps_with_the_targets_that_the_tenant_leaves(tmp_path):
    chains = Chains(*cascade_chains(tmp_path, forbid_regions=["us"]))
    chain = chains.find("m", ANYONE, SERVED)
    assert labels(chain) == ["local:llm", "openai:gpt", "mistral:large"]
    assert [(step.plan.name, labels(step)) for step in chain.steps] == [
        ("small", ["local:llm"]),
        ("big", ["openai:gpt", "mistral:large"]),
    ]
    bank = chains.find("m", Key("k", "bank"), SERVED)
    assert [labels(step) for step in bank.steps] == [["local:llm"], ["mistral:large"]]
    assert bank.forbidden == ("openai:gpt",)
    assert chains.owner("m") == "local"
    assert chains.names(ANYONE, {}) == ["m"]


def test_a_tenant_that_forbids_all_of_a_step_keeps_the_step_without_targets(tmp_path):
    chains = Chains(*cascade_chains(tmp_path, forbid_providers=["openai", "mistral"]))
    assert [labels(step) for step in chains.find("m", Key("k", "bank"), SERVED).steps] == [["local:llm"], []]


def test_steps_are_never_asked_as_a_chain(tmp_path):
    file, entries, _ = cascade_chains(tmp_path)
    with pytest.raises(SettingError, match=r"models.m.steps: their calibrations"):
        Chains(file, entries)


def test_an_adapter_that_is_gone_is_no_model_of_a_provider_with_the_models_name(chains):
    served = {name: ServedModel(name, "chat", True) for name in ("mistral", "mistral:law")}
    assert labels(chains.find("mistral:law", ANYONE, served)) == ["local:mistral:law"]
    with pytest.raises(NotFoundError):
        chains.find("mistral:art", ANYONE, served)
    # As before where the model has no adapters.
    del served["mistral:law"]
    assert labels(chains.find("mistral:large", ANYONE, served)) == ["mistral:large"]


def test_an_adapter_is_a_model_of_its_own_that_a_key_must_name(chains):
    served = {**SERVED, "llm:law": ServedModel("llm:law", "chat", True)}
    assert labels(chains.find("llm:law", ANYONE, served)) == ["local:llm:law"]
    assert labels(chains.find("llm:law", Key("k", "acme", models=("llm:law",)), served)) == ["local:llm:law"]
    with pytest.raises(PermissionDeniedError, match="may not use model 'llm:law'"):
        chains.find("llm:law", Key("k", "acme", models=("llm",)), served)
    with pytest.raises(NotFoundError):
        chains.find("llm:art", ANYONE, served)
    assert "llm:law" in chains.names(ANYONE, served)
    assert "llm:law" not in chains.names(Key("k", "acme", models=("llm",)), served)
