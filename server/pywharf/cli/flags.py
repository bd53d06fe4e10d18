"""Flags: with underscores or dashes, also as environment variables, and with a hint for a wrong one."""

import difflib
import os
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
import msgspec

ENVIRONMENT_PREFIX = "PYWHARF_COMMAND_"
CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "token_normalize_func": lambda token: token.replace("-", "_"),
    "max_content_width": 110,
}
OWN_TYPE = "type"
_TRUE = {"1", "true", "t", "yes", "y", "on"}
_FALSE = {"0", "false", "f", "no", "n", "off"}


class Command(click.Command):
    """A command whose switches also accept a value, as the original's did (`--debug=True`)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite switches with a value, then parse."""
        switches = {
            option: parameter
            for parameter in self.params
            if isinstance(parameter, click.Option) and parameter.is_flag and parameter.secondary_opts
            for option in parameter.opts
        }
        return super().parse_args(ctx, [self._rewrite(arg, switches) for arg in args])

    @staticmethod
    def _rewrite(arg: str, switches: dict[str, click.Option]) -> str:
        name, equals, value = arg.partition("=")
        option = switches.get(name.replace("-", "_").replace("__", "--", 1) if name.startswith("--") else name)
        if not equals or option is None:
            return arg
        if value.lower() in _TRUE:
            return option.opts[0]
        if value.lower() in _FALSE:
            return option.secondary_opts[0]
        raise click.BadParameter(f"{name} is {value!r}; write {name}=true or {name}=false.")


class _Option(click.Option):
    """An option that reads an empty variable as an empty text if that differs in meaning from the default."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        value = super().resolve_envvar_value(ctx)
        empty = value is None and isinstance(self.envvar, str) and os.environ.get(self.envvar) == ""
        return "" if empty and self.type is click.STRING and isinstance(self.default, str) else value


def environment_name(field: str) -> str:
    """Return the environment variable that sets a flag."""
    return ENVIRONMENT_PREFIX + field.upper()


def option(field: str, kind: Any, default: Any, description: str, limits: msgspec.Meta | None = None) -> click.Option:  # noqa: ANN401 - any setting's type
    """Make a click option for one field of a settings struct.

    A field whose `Meta(extra={OWN_TYPE: …})` holds a type of click gets an option of that type, which reads an empty
    variable as unset.
    """
    shared: dict[str, Any] = {"help": description, "envvar": environment_name(field), "show_envvar": False}
    if default is msgspec.NODEFAULT:
        shared["required"] = True  # without any default: click takes None for one
    else:
        shared["default"] = default
    if limits and limits.extra and OWN_TYPE in limits.extra:
        return click.Option([f"--{field}"], type=limits.extra[OWN_TYPE], show_default=True, **shared)
    if kind is bool:
        return click.Option([f"--{field}/--no_{field}"], show_default=True, **shared)
    return _Option(
        [f"--{field}"],
        type=_click_type(kind, limits),
        show_default=shared.get("default") is not None,
        **shared,
    )


def _click_type(kind: Any, limits: msgspec.Meta | None) -> click.ParamType[Any]:  # noqa: ANN401 - any setting's type
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    minimum, maximum = (limits.ge, limits.le) if limits else (None, None)
    if kind is int:
        return _Int(minimum, maximum)  # type: ignore[arg-type]
    if kind is float:
        return _Float(minimum, maximum)
    return click.STRING


def _limits(of: click.IntRange | click.FloatRange) -> str:
    if of.max is None:
        return "" if of.min is None else f" of at least {of.min}"
    return f" of at most {of.max}" if of.min is None else f" from {of.min} to {of.max}"


class _Int(click.IntRange):
    """An integer type with one message for a text that is not a number and for a number out of range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{str(value)[:80]!r} is not a whole number{_limits(self)}.", param, ctx)


class _Float(click.FloatRange):
    """A float type with one message for a text that is not a number and for a number out of range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's
        try:
            return float(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{str(value)[:80]!r} is not a number{_limits(self)}.", param, ctx)


def options_of(struct: type[msgspec.Struct], leave_out: Iterable[str] = ()) -> list[click.Parameter]:
    """Make an option for each field of a struct. Help, limits and default come from the field."""
    hints = get_type_hints(struct, include_extras=True)
    made: list[click.Parameter] = []
    for field in msgspec.structs.fields(struct):
        if field.name in leave_out:
            continue
        hint, limits = hints[field.name], None
        if get_origin(hint) is Annotated:
            hint, limits = get_args(hint)[0], get_args(hint)[1]
        description = (limits.description if limits else None) or ""
        kind = next((k for k in get_args(hint) if k is not type(None)), hint) if type(None) in get_args(hint) else hint
        if get_origin(kind) is Annotated:
            kind, limits = get_args(kind)[0], get_args(kind)[1]
        made.append(option(field.name, kind, field.default, description, limits))
    return made


def nearest(given: str, known: Sequence[str], prefix: str = "") -> str:
    """Return a hint at the known name nearest to `given`, with `prefix` before it; "" if none is near."""
    found = difflib.get_close_matches(given, known, n=1, cutoff=0.6)
    return f" Did you mean {prefix}{found[0]}?" if found else ""
