"""Check that every type is known to msgspec before it is decoded: `tests/server/test_msgspec_threads.py` says why."""

import ast

from support.parts import CHECKOUT


def test_every_type_that_is_decoded_is_known_before():
    """Every type given to msgspec's decoders is passed to `warmed_up(...)` somewhere, or decorated with it."""
    decoded: dict[str, str] = {}
    known: set[str] = set()
    for path in sorted((CHECKOUT / "server").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                known |= {node.name for d in node.decorator_list if ast.unparse(d) == "warmed_up"}
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called == "warmed_up":
                    known.add(ast.unparse(node.args[0]))
                elif called in {"msgspec.json.decode", "msgspec.convert"}:
                    types = [k.value for k in node.keywords if k.arg == "type"] or node.args[1:2]
                    for given in types:
                        decoded.setdefault(ast.unparse(given), f"{path.name}:{node.lineno}")
    unknown = {name: where for name, where in decoded.items() if name not in known and "warmed_up(" not in name}
    assert decoded
    assert not unknown, f"decorate these with core.msgspec_warmup.warmed_up: {unknown}"
