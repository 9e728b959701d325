from collections import Counter
from pathlib import Path

import pytest

from benchmarks.scaling.load import (
    AZURE,
    MOONCAKE,
    SHIFT_S,
    Load,
    Request,
    make_day,
    make_steps,
    overlay,
    read_azure,
    read_mooncake,
    read_own,
    split,
    take_volume,
    thin,
    vary,
)
from trireme.errors import InvalidInputError

TRACES = Path(__file__).parents[5] / "shared" / "data" / "traces"


@pytest.fixture
def load():
    return Load("one", tuple(Request(at / 2, at, 3) for at in range(2000)), 1000.0)


def test_an_overlay_repeats_no_request_at_its_own_instant(load):
    found = overlay(load, 4, 1)
    assert len(found.requests) == 4 * len(load.requests)
    assert Counter(one.inputs for one in found.requests) == Counter({at: 4 for at in range(2000)})
    assert max(Counter(one.at for one in found.requests).values()) == 1
    assert [one.at for one in found.requests] == sorted(one.at for one in found.requests)
    assert all(0 <= one.at < load.seconds for one in found.requests)


def test_an_overlay_keeps_each_copy_within_its_shift(load):
    at = {one.inputs: one.at for one in load.requests}
    moved = [abs(one.at - at[one.inputs]) for one in overlay(load, 3, 1).requests]
    # What left one end came in at the other.
    assert all(one <= SHIFT_S or one >= load.seconds - SHIFT_S for one in moved)
    assert max(moved) > 1


def test_a_seed_draws_the_same_and_another_seed_another(load):
    assert overlay(load, 2, 1) == overlay(load, 2, 1) != overlay(load, 2, 2)
    assert thin(load, 0.5, 1) == thin(load, 0.5, 1) != thin(load, 0.5, 2)


def test_thinning_keeps_requests_as_they_are(load):
    found = thin(load, 0.25, 1)
    assert set(found.requests) < set(load.requests)
    assert 400 < len(found.requests) < 600


def test_a_volume_is_copies_of_which_requests_are_left_out(load):
    assert take_volume(load, 1.0, 1).requests == load.requests
    assert take_volume(load, 2.0, 1) == overlay(load, 2, 1)
    half, more = take_volume(load, 0.5, 1), take_volume(load, 2.5, 1)
    assert 900 < len(half.requests) < 1100 and half.name == "one x 0.5"
    assert 4800 < len(more.requests) < 5200 and more.name == "one x 2.5"


def test_the_second_part_is_the_whole_load_judged_from_the_cut_on(load):
    first, second = split(load, 0.25)
    assert [one.at for one in first.requests][-1] == 249.5 and first.seconds == 250
    assert second.requests == load.requests and second.judged_from == 250


def test_a_fit_sees_a_fifth_less_and_a_fifth_more(load):
    same, less, more = vary(load, 1)
    assert same is load
    assert 0.75 < len(less.requests) / 2000 < 0.85
    assert 1.15 < len(more.requests) / 2000 < 1.25
    assert {one.name for one in (less, more)} == {"one"}


def test_steps_come_at_their_rates():
    found = make_steps(((0, 2), (500, 20)), 1000, 1)
    early = sum(one.at < 500 for one in found.requests)
    assert 850 < early < 1150 and 9_500 < len(found.requests) - early < 10_500
    assert found.steps == (500,)


def test_a_synthetic_day_follows_its_profile_and_no_day_is_like_another():
    day = make_day(0.1, 7)
    hours = Counter(int(one.at / 3600) for one in day.requests)
    assert hours[10] > 2.5 * hours[4]
    assert all(one.inputs >= 1 and one.outputs >= 1 for one in day.requests)
    assert day.requests != make_day(0.1, 8).requests


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_trace_of_ones_own_is_sorted_and_begins_at_zero(tmp_path):
    path = write(tmp_path / "mine.csv", "seconds,input_tokens,output_tokens\n12.5,7,8\n10,5,6\n")
    assert read_own(path) == Load("mine", (Request(0.0, 5, 6), Request(2.5, 7, 8)), 3)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("seconds,input_tokens,output_tokens\n1,2,3\n2,x,3\n", r"mine\.csv line 3"),
        ("seconds,input_tokens,output_tokens\n1,2,3\n2,-1,3\n", r"mine\.csv line 3"),
        ("seconds,input_tokens,output_tokens\nnan,2,3\n2,1,3\n", r"mine\.csv line 2"),
        ("at,tokens\n1,2\n", "seconds, input_tokens, output_tokens"),
        ("seconds,input_tokens,output_tokens\n1,2,3\n", "fewer than two"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_by_its_line(tmp_path, text, named):
    with pytest.raises(InvalidInputError, match=named):
        read_own(write(tmp_path / "mine.csv", text))


def test_the_formats_of_azure_and_mooncake_are_read(tmp_path):
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    azure += "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.6805900,3,4\n"
    assert read_azure(write(tmp_path / AZURE, azure)).requests == (Request(0.0, 374, 44), Request(4.0, 3, 4))
    line = '{"timestamp": %d, "input_length": 6758, "output_length": 500, "hash_ids": [0]}\n'
    found = read_mooncake(write(tmp_path / MOONCAKE, line % 500 + line % 2000))
    assert found.requests == (Request(0.0, 6758, 500), Request(1.5, 6758, 500))
    with pytest.raises(InvalidInputError, match=MOONCAKE):
        read_mooncake(write(tmp_path / MOONCAKE, "{}\n"))


@pytest.mark.shared_data
def test_the_public_traces_are_read():
    if not TRACES.is_dir():
        pytest.skip("no traces: the optional data folder is absent")
    assert len(read_azure(TRACES / AZURE).requests) > 10_000
    assert len(read_mooncake(TRACES / MOONCAKE).requests) > 8_000
