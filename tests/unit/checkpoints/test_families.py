import pytest

from trireme.checkpoints.families import FAMILIES, LLM_FAMILIES


@pytest.mark.parametrize("table", [FAMILIES, LLM_FAMILIES], ids=["encoders", "llms"])
def test_a_row_is_found_by_its_model_type(table):
    assert all(row.model_type == name for name, row in table.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_that_config_json_leaves_out_are_those_of_transformers(family):
    import transformers

    row = FAMILIES[family]
    library = getattr(transformers, f"{row.class_name}Config")().to_dict()
    assert library["model_type"] == family
    assert row.sizes.read({}) == row.sizes.read(library)
    assert row.activation in library
    assert row.has_segments({}) == row.has_segments(library)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prefix_is_that_of_the_encoder_in_a_model_with_a_head(family):
    import transformers

    row = FAMILIES[family]
    model = getattr(transformers, f"{row.class_name}ForSequenceClassification")
    assert model.base_model_prefix == row.prefix


@pytest.mark.parametrize("family", FAMILIES)
def test_only_a_table_that_begins_behind_the_padding_skips_entries(family):
    row = FAMILIES[family]
    begins_behind = row.first_position == "after padding"
    assert row.skipped_positions({"pad_token_id": 4}) == (5 if begins_behind else 0)
    positions = {row.sizes.positions[0]: 100, "pad_token_id": 4}
    assert row.longest_row(positions) == (95 if begins_behind else 100)
