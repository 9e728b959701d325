"""What an exchange says of itself in the headers of its answer."""

from trireme.gateway.exchange import open_exchange


def test_an_answer_has_one_header_of_each_name_however_many_prompts_it_is_of():
    """Clients of http.client take 100 headers, and a request may have 128 prompts."""
    exchange = open_exchange({"headers": []}, "completions")
    for place in range(128):
        exchange.notes.append(("x-trireme-dropped", "logit_bias"))
        exchange.notes.append(("x-trireme-cache", "miss" if place else "exact; age=3"))
    said = [header for header in exchange.reply_headers() if header[0] != "x-request-id"]
    assert said == [
        ("x-trireme-dropped", "logit_bias"),
        ("x-trireme-cache", ", ".join(["exact; age=3"] + ["miss"] * 127)),
    ]
