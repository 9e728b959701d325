import pytest

from trireme.cost.machines import DAY, HourPrice
from trireme.cost.port import Own
from trireme.errors import SettingError
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.spending.machine_prices import hour_prices_of, own_of

FILE = """
[providers.openai]
kind = "openai"
[providers.second]
kind = "triton"
url = "10.0.0.7:8001"
[prices."openai:a"]
dollars_per_hour = 0
tokens_per_second = 1
[prices."openai:b"]
machine = "gpu"
tokens_per_second = 1
[prices."openai:c"]
input = 1
output = 1
[[machines.gpu]]
since = 1970-01-03
dollars_per_hour = 0.1
[[machines.gpu]]
dollars_per_hour = 2
always = 3
"""


def read(text):
    return parse_gateway_file(text.encode(), "gateway.toml")


def test_own_is_every_triton_and_what_is_priced_by_the_hour():
    assert own_of(read(FILE)) == Own(("local", "second"), ("openai:a", "openai:b"))
    assert own_of(read("")) == Own(("local",))


def test_prices_are_by_date_and_have_the_digits_that_were_written():
    assert hour_prices_of(read(FILE)) == {
        "gpu": (HourPrice(0, 2_000_000_000, 3), HourPrice(2 * DAY, 100_000_000))
    }
    assert hour_prices_of(read("")) == {}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("[[machines.gpu]]\n", "dollars_per_hour"),
        ("[[machines.gpu]]\ndollars_per_hour = -1\n", "machines.gpu.dollars_per_hour must be from 0"),
        ("[[machines.gpu]]\ndollars_per_hour = nan\n", "machines.gpu.dollars_per_hour must be from 0"),
        ("[[machines.gpu]]\ndollars_per_hour = 1\nalways = -1\n", "machines.gpu.always must be from 0"),
        ("[[machines.gpu]]\ndollars_per_hour = 1\nprice = 1\n", "price"),
        ('[[machines."a b"]]\ndollars_per_hour = 1\n', "a kind has up to 64 letters"),
        ("[machines]\ngpu = []\n", "machines.gpu has no price"),
        (
            "[[machines.gpu]]\ndollars_per_hour = 1\n[[machines.gpu]]\ndollars_per_hour = 2\n",
            "two prices since one day",
        ),
    ],
)
def test_a_machine_that_cannot_be_right_stops_the_start_and_is_named(rows, words):
    with pytest.raises(SettingError, match=words):
        read(rows)
