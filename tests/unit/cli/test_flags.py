"""Check the command-line options that are generated from a settings struct."""

from typing import Annotated, Literal

import click
import msgspec
import pytest
from msgspec import Meta

from pywharf.cli.flags import OWN_TYPE, Command, environment_name, nearest, options_of


class Settings(msgspec.Struct):
    text: Annotated[str | None, Meta(description="A text.")] = None
    number: Annotated[int, Meta(ge=1, le=9, description="A number.")] = 5
    part: Annotated[float, Meta(ge=0, description="A part.")] = 0.5
    switch: Annotated[bool, Meta(description="A switch.")] = False
    one_of: Annotated[Literal["a", "b"], Meta(description="A choice.")] = "a"
    left_out: str = ""


DEFAULTS = {"text": None, "number": 5, "part": 0.5, "switch": False, "one_of": "a"}
COMMAND = Command(
    "test",
    params=options_of(Settings, leave_out=["left_out"]),
    callback=lambda **_values: None,
    context_settings={"token_normalize_func": lambda token: token.replace("-", "_")},
)


def parsed(*args: str) -> dict[str, object]:
    with COMMAND.make_context("test", list(args)) as context:
        return dict(context.params)


@pytest.mark.parametrize(
    ("args", "changed"),
    [
        ([], {}),
        (["--text=x"], {"text": "x"}),
        (["--text", ""], {"text": ""}),
        (["--number=9", "--part", "0"], {"number": 9, "part": 0.0}),
        (["--switch"], {"switch": True}),
        (["--switch=yes"], {"switch": True}),
        (["--switch=OFF"], {"switch": False}),
        (["--switch", "--no-switch"], {"switch": False}),
        (["--one-of=b"], {"one_of": "b"}),
        (["--one_of", "b"], {"one_of": "b"}),
    ],
)
def test_values(args, changed):
    assert parsed(*args) == DEFAULTS | changed


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--number=0"], "'0' is not a whole number from 1 to 9."),
        (["--number=ten"], "'ten' is not a whole number from 1 to 9."),
        (["--number=1.5"], "'1.5' is not a whole number from 1 to 9."),
        (["--part=-1"], "'-1' is not a number of at least 0."),
        (["--part=half"], "'half' is not a number of at least 0."),
        (["--switch=maybe"], "--switch is 'maybe'; write --switch=true or --switch=false."),
        (["--one_of=c"], "'c' is not one of 'a', 'b'."),
        (["--left_out=x"], "No such option"),
        (["--text"], "requires an argument"),
    ],
)
def test_wrong_values(args, said):
    with pytest.raises(click.UsageError) as raised:
        parsed(*args)
    assert said in raised.value.format_message()


def test_environment(monkeypatch):
    assert environment_name("one_of") == "PYWHARF_COMMAND_ONE_OF"
    monkeypatch.setenv("PYWHARF_COMMAND_NUMBER", "7")
    monkeypatch.setenv("PYWHARF_COMMAND_SWITCH", "true")
    monkeypatch.setenv("PYWHARF_COMMAND_LEFT_OUT", "x")
    assert parsed("--one-of=b") == DEFAULTS | {"number": 7, "switch": True, "one_of": "b"}
    assert parsed("--number=3", "--no_switch") == DEFAULTS | {"number": 3}
    monkeypatch.setenv("PYWHARF_COMMAND_NUMBER", "70")
    with pytest.raises(click.UsageError, match="'70' is not a whole number from 1 to 9"):
        parsed()


def test_help_says_what_the_struct_says():
    with click.Context(COMMAND) as context:
        text = " ".join(COMMAND.get_help(context).split())
    for said in ("A text.", "A number.", "1<=x<=9", "[default: 5", "A part.", "A switch.", "[a|b]", "A choice."):
        assert said in text
    assert "left" not in text


@pytest.mark.parametrize(
    ("given", "hint"),
    [("--prot", " Did you mean --port?"), ("--hots", " Did you mean --host?"), ("--zzzzz", ""), ("", "")],
)
def test_hint(given, hint):
    assert nearest(given, ["--port", "--host"]) == hint


class SettingsOfOwnTypes(msgspec.Struct):
    port: Annotated[int, Meta(description="A port.", extra={OWN_TYPE: click.IntRange(0, 9)})] = 5
    host: Annotated[str, Meta(description="A host.", extra={OWN_TYPE: click.UNPROCESSED})] = "localhost"


def test_a_field_may_bring_a_type_of_click(monkeypatch):
    command = Command("test", params=options_of(SettingsOfOwnTypes))
    monkeypatch.setenv(environment_name("host"), "")
    assert command.make_context("test", []).params == {"port": 5, "host": "localhost"}
    assert command.make_context("test", ["--port=9", "--host="]).params == {"port": 9, "host": ""}
    with pytest.raises(click.UsageError, match="10 is not in the range 0<=x<=9"):
        command.make_context("test", ["--port=10"])
