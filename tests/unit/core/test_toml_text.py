import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.errors import InvalidConfigError
from pywharf.core.toml_text import dumps, dumps_flat, encode_string, loads

texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts)
def test_any_text_reads_back(text):
    assert tomllib.loads(f"key = {encode_string(text)}") == {"key": text}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\\x41",
        "\\\\x41",
        "a\\xb",
        "C:\\xampp",
        "\x7f",
        "\0",
        "\x1b[31m",
        "\r\n",
        "\r",
        '"',
        '"""',
        "'''",
        "\\",
        "\\u0041",
        "\u2028\ufeff\U0010ffff",
        "# no comment",
        "[table]",
    ],
)
def test_texts_that_other_encoders_break(text):
    assert tomllib.loads(f"key = {encode_string(text)}") == {"key": text}
    assert tomllib.loads(dumps({"key": text, "table": {"key": text}})) == {"key": text, "table": {"key": text}}
    assert "\n" not in encode_string(text)


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb", "\udfff\ud800"])
def test_lone_surrogate_is_refused(text):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode_string(text)
    with pytest.raises(ValueError, match="surrogates not allowed"):
        dumps({"key": text})


entries = st.fixed_dictionaries(
    {"distrib": texts, "sha256": texts, "meta": st.dictionaries(st.sampled_from(["a", "b_2"]), texts, min_size=1)}
)


@given(st.integers(0, 2**40), st.lists(entries, max_size=4))
def test_document_reads_back(mtime, pkgs):
    document = {"mtime": mtime, "pkgs": pkgs}
    assert loads(dumps(document), "here") == document


@given(st.dictionaries(texts, st.one_of(texts, st.integers(), st.floats(), st.lists(st.integers()), st.none())))
def test_what_does_not_read_back_is_refused(document):
    try:
        text = dumps(document)
    except ValueError:
        assert document
    else:
        assert tomllib.loads(text) == document


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "there is not valid TOML: Invalid value (at end of document)."),
        ("\n\n a = 1 b", "there is not valid TOML: Expected newline or end of document after a statement (at line 3,"),
        ("a = 1\na = 2\n", "there is not valid TOML: Cannot overwrite a value (at line 2, column 6)."),
        ("a = '\x7f'", "there is not valid TOML: Found invalid character '\\x7f' (at line 1, column 6)."),
        ("a = " + "[" * 5000, "there is not usable TOML: its values are nested too deeply."),
        ("a = " + "{b=" * 5000, "there is not usable TOML: its values are nested too deeply."),
        ("a = " + "1" * 5000, "there is not usable TOML: it holds a number or time that is too large."),
        ("a = 2001-02-30", "there is not valid TOML: Invalid date or datetime (at line 1, column 5)."),
    ],
)
def test_broken_text_is_refused_in_a_sentence(text, reason):
    with pytest.raises(InvalidConfigError) as raised:
        loads(text, "there")
    assert str(raised.value).startswith(reason)
    assert str(raised.value).endswith(".")


@given(st.text(alphabet="ab=[]{}\"'\n#.,0x-_T:Z\\u ", max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        document = loads(text, "there")
    except InvalidConfigError as error:
        assert str(error).startswith("there is not ")  # noqa: PT017
    else:
        assert document == tomllib.loads(text)


@given(st.dictionaries(st.from_regex(r"[a-z_0-9]{1,8}", fullmatch=True), texts))
def test_flat_strings_are_written_as_dumps_writes_them(strings):
    assert tomllib.loads(dumps_flat(strings)) == strings
