HTML = """<html><head><title>A page</title><script>var hidden = 1</script></head>
<body><nav>Home | About</nav><h1>Oars</h1><p>Three <b>banks</b> of<br>oars.</p>
<script>alert("hidden")</script><style>p {}</style><h2>Rowers</h2><ul><li>one</li><li>two</li></ul>
<footer>hidden</footer></body></html>"""


def test_html_keeps_title_headings_and_text_and_leaves_out_scripts_and_navigation(tmp_path, documents_of):
    (tmp_path / "page.html").write_text(HTML)
    (document,) = documents_of(tmp_path)
    assert document.title == "A page"
    assert document.text.split("\n\n") == ["# Oars", "Three banks of", "oars.", "## Rowers", "one", "two"]


def test_xhtml_is_read_without_complaint(tmp_path, documents_of):
    (tmp_path / "x.html").write_text('<?xml version="1.0"?><html><body><p>text</p></body></html>')
    assert "text" in documents_of(tmp_path)[0].text


def test_a_page_in_another_encoding_is_read_as_it_says(tmp_path, documents_of, reason_of):
    (tmp_path / "old.html").write_bytes(
        b'<meta charset="iso-8859-1"><title>caf\xe9</title><p>\x93caf\xe9\x94'
    )
    (document,) = documents_of(tmp_path)
    assert (document.title, document.text) == ("café", "“café”")
    (tmp_path / "old.html").write_bytes(b'<meta charset="klingon"><p>caf\xe9')
    assert "klingon" in reason_of(tmp_path)


def test_a_page_of_a_hundred_thousand_nested_or_open_tags_is_read(tmp_path, documents_of):
    (tmp_path / "deep.html").write_text("<div>" * 100_000 + "deep" + "</div>" * 50_000)
    (tmp_path / "flat.html").write_text("<p>flat <b>text" * 100_000)
    deep, flat = documents_of(tmp_path)
    assert deep.text == "deep"
    assert flat.text.count("flat text") == 100_000
