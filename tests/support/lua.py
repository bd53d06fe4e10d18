"""Scripts run as Argo CD runs them: Lua 5.1 with its base, table and package libraries, and of `os` time and date."""

from collections.abc import Mapping
from typing import Any

from lupa.lua51 import LuaRuntime, lua_type

# A call of a string's method must fail too, so strings lose their metatable.
_CLOSE = """
debug.setmetatable("", nil)
local safe = {time = os.time, date = os.date}
package.loaded.os, os = safe, safe
for _, name in ipairs({"string", "math", "io", "debug", "coroutine", "python"}) do
  _G[name], package.loaded[name] = nil, nil
end
"""


def run(script: str, obj: Mapping[str, Any]) -> Any:
    """What the script returns, with the object as the global `obj`. Raises LuaError."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False)
    lua.execute(_CLOSE)
    lua.globals().obj = _into(lua, obj)
    return _out_of(lua.execute(script))


def _into(lua: Any, value: Any) -> Any:
    """Absent values are nil and lists count from 1. Numbers are numbers, as in Argo CD."""
    if isinstance(value, Mapping):
        return lua.table_from({key: _into(lua, item) for key, item in value.items() if item is not None})
    if isinstance(value, (list, tuple)):
        return lua.table_from([_into(lua, item) for item in value])
    return value


def _out_of(value: Any) -> Any:
    """A table is a list where its keys are 1, 2, …; an empty one is too, as in Argo CD."""
    if lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys == list(range(1, len(keys) + 1)):
        return [_out_of(value[key]) for key in keys]
    return {key: _out_of(value[key]) for key in keys}
