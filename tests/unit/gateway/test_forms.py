"""Forms of uploads: what is read of them, what is refused, and that nothing is taken without bound."""

import asyncio
import stat

import pytest

from fakes.forms import FORM_TYPE, form, part, receive_of
from trireme.errors import DeadlineError, InvalidInputError, TooLargeError
from trireme.gateway.bodies import ClientGoneError
from trireme.gateway.file import Limits
from trireme.gateway.forms import FIELD_BYTES, HEADER_BYTES, MOST_HEADERS, MOST_PARTS, check_name, read_form

LIMITS = Limits()
TEXT = b"Ann's notes.\r\n--b0undar but not quite\r\n\r\n--\x00\xff\r\n-"


def read(folder, body, sizes=65_536, *, content_type=FORM_TYPE, gone=False):
    return asyncio.run(read_form(receive_of(body, sizes, gone=gone), content_type, "", folder, LIMITS))


def notes(name="notes.txt", value=TEXT):
    return part("file", value, name, "text/plain")


@pytest.mark.parametrize("sizes", [1, 2, 3, 7, 64, 65_536])
def test_a_form_is_the_same_however_its_body_is_cut(tmp_path, sizes):
    body = form(part("title", "Über\r\nuns"), notes(), part("metadata", '{"page": 3}'))
    read_form = read(tmp_path, body, sizes)
    assert read_form.fields == {"title": "Über\r\nuns", "metadata": '{"page": 3}'}
    assert (read_form.file.field, read_form.file.name) == ("file", "notes.txt")
    assert (read_form.file.content_type, read_form.file.size) == ("text/plain", len(TEXT))
    assert read_form.file.path.read_bytes() == TEXT


def test_the_file_is_for_this_user_alone_and_lies_under_no_name_of_the_sender(tmp_path):
    file = read(tmp_path, form(notes("secret plans.txt"))).file
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["upload"]


def test_a_file_larger_than_what_is_held_before_a_write_is_whole(tmp_path):
    value = bytes(range(256)) * 16_384
    assert read(tmp_path, form(notes(value=value))).file.path.read_bytes() == value


def test_an_empty_file_and_an_empty_form_are_what_they_are(tmp_path):
    assert read(tmp_path, form(notes(value=b""))).file.size == 0
    assert read(tmp_path, form()).file is None


def test_a_form_that_is_cut_at_any_byte_is_no_form(tmp_path):
    body = form(part("title", "a"), notes(value=b"text"))
    whole = len(body) - len("\r\n")
    for end in range(whole):
        folder = tmp_path / str(end)
        folder.mkdir()
        with pytest.raises(InvalidInputError, match="multipart"):
            read(folder, body[:end])


def test_a_client_that_goes_away_is_no_error_of_the_form(tmp_path):
    with pytest.raises(ClientGoneError):
        read(tmp_path, form(notes()), sizes=16, gone=True)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", "ends before"),
        (b"{}", "not valid"),
        (b"--other\r\n\r\n\r\n--other--", "not valid"),
        (form(b"Content-Type: text/plain\r\n\r\nx"), "no content-disposition"),
        (form(b'Content-Disposition: attachment; name="file"\r\n\r\nx'), "no content-disposition"),
        (form(b'Content-Disposition: form-data; name=""\r\n\r\nx'), "no content-disposition"),
        (form(b"Content\x00Disposition: form-data\r\n\r\nx"), "not valid"),
        (form(b": form-data\r\n\r\nx"), "not valid"),
        (form(part("title", "a"), part("title", "b")), "'title' is given twice"),
        (form(notes(), part("file", "b")), "'file' is given twice"),
        (form(notes(), part("more", b"x", "b.txt")), "two files"),
        (form(part("title", b"\xff\xfe")), "'title' is not UTF-8"),
        (form(part("file", b"x", "a.txt", more=["Content-Transfer-Encoding: base64"])), "transfer-encoding"),
        (form(b'Content-Disposition: form-data; name="file"; filename="\xff.txt"\r\n\r\nx'), "not UTF-8"),
        (form(b"\r\n".join([b"X-%d: 1" % n for n in range(MOST_HEADERS + 1)]) + b"\r\n\r\nx"), "not valid"),
        (form(b"X: " + b"a" * HEADER_BYTES + b"\r\n\r\nx"), "not valid"),
    ],
)
@pytest.mark.parametrize("sizes", [1, 65_536])
def test_a_malformed_form_is_refused_with_what_is_wrong_and_fills_no_log(
    tmp_path, caplog, body, wanted, sizes
):
    with pytest.raises(InvalidInputError, match=wanted):
        read(tmp_path, body, sizes)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("content_type", "wanted"),
    [
        ("", "sent as multipart/form-data"),
        ("application/x-www-form-urlencoded", "sent as multipart/form-data"),
        ("multipart/mixed; boundary=b", "sent as multipart/form-data"),
        ("multipart/form-data", "no boundary"),
        ('multipart/form-data; boundary=""', "no boundary"),
        ("multipart/form-data; boundary=" + "x" * 5000, "too long"),
    ],
)
def test_another_content_type_is_refused(tmp_path, content_type, wanted):
    with pytest.raises(InvalidInputError, match=wanted):
        read(tmp_path, form(notes()), content_type=content_type)


def test_a_body_that_says_it_is_too_large_is_not_read(tmp_path):
    async def receive():
        raise AssertionError("read")

    with pytest.raises(TooLargeError, match="more than 1000 bytes"):
        asyncio.run(read_form(receive, FORM_TYPE, "1001", tmp_path, Limits(upload_bytes=1000)))


def test_a_body_that_turns_out_too_large_is_read_no_further(tmp_path):
    body = form(notes(value=b"x" * 100_000))
    receive = receive_of(body, 1000)
    with pytest.raises(TooLargeError, match="more than 5000 bytes"):
        asyncio.run(read_form(receive, FORM_TYPE, "", tmp_path, Limits(upload_bytes=5000)))
    assert len(asyncio.run(receive())["body"]) == 1000


def test_fields_are_bounded_in_number_and_size(tmp_path):
    with pytest.raises(TooLargeError, match=f"more than {MOST_PARTS} fields"):
        read(tmp_path, form(*[part(f"f{n}", "") for n in range(MOST_PARTS + 1)]))
    with pytest.raises(TooLargeError, match="'title' has more than"):
        read(tmp_path, form(part("title", "x" * (FIELD_BYTES + 1))))


def test_a_body_that_stops_coming_is_given_up(tmp_path):
    async def receive():
        await asyncio.Event().wait()

    with pytest.raises(DeadlineError, match="0 bytes of the form arrived"):
        asyncio.run(read_form(receive, FORM_TYPE, "", tmp_path, Limits(body_seconds=0.1)))


@pytest.mark.parametrize(
    "name",
    ["", "a/b.txt", "../b.txt", "..", ".", "a\\b.txt", "/etc/passwd", "a\nb.txt", "a\x00.txt", "a\x7f.txt",
     "a\u2028b.txt", "a\x85.txt", "ä" * 128],
)  # fmt: skip
def test_what_is_no_name_of_a_file_is_refused(name):
    with pytest.raises(InvalidInputError, match="file's name") as refused:
        check_name(name)
    assert refused.value.param == "file"


@pytest.mark.parametrize("name", ["a.txt", "報告 (2).pdf", "..a", "a b.md", "ä" * 127])
def test_other_names_are_kept_as_they_are(name):
    assert check_name(name) == name
