"""Scripts run as Argo CD runs them: Lua 5.1 with the base, table and package libraries, and `os.time` and `os.date`."""

from collections.abc import Mapping
from typing import Any

from lupa.lua51 import LuaRuntime, lua_type

# Calling a method of a string must fail too, so strings lose their metatable.
_CLOSE = """
debug.setmetatable("", nil)
local safe = {time = os.time, date = os.date}
package.loaded.os, os = safe, safe
for _, name in ipairs({"string", "math", "io", "debug", "coroutine", "python"}) do
  _G[name], package.loaded[name] = nil, nil
end
"""


def run(script: str, obj: Mapping[str, Any]) -> Any:
    """Run the script with the object as the global `obj` and return its result. Raises LuaError."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False)
    lua.execute(_CLOSE)
    lua.globals().obj = _into(lua, obj)
    return _out_of(lua.execute(script))


def _into(lua: Any, value: Any) -> Any:
    """Convert to Lua: None becomes nil, lists count from 1, and numbers stay numbers, as in Argo CD."""
    if isinstance(value, Mapping):
        return lua.table_from({key: _into(lua, item) for key, item in value.items() if item is not None})
    if isinstance(value, (list, tuple)):
        return lua.table_from([_into(lua, item) for item in value])
    return value


def _out_of(value: Any) -> Any:
    """Convert from Lua. A table whose keys are 1, 2, … is a list; an empty table is one too, as in Argo CD."""
    if lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if keys == list(range(1, len(keys) + 1)):
        return [_out_of(value[key]) for key in keys]
    return {key: _out_of(value[key]) for key in keys}
