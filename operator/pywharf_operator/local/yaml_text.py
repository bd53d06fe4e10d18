"""A safe reader of YAML documents, with limits on their depth and on the expansion of their aliases.

Messages give line and column, never a part of the text: it may hold secrets.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

MAX_NODES = 500_000
"""Most values of one document. An alias counts as often as it is used."""
_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)


class Document(msgspec.Struct, frozen=True):
    """One document: its value, or what is wrong with it."""

    value: Any = None
    fault: str | None = None
    """A sentence that gives the position in the text, but no part of the text."""


class _FaultError(Exception):
    def __init__(self, mark: yaml.Mark | None, sentence: str) -> None:
        super().__init__(sentence)
        self.line = mark.line if mark else 0
        self.column = mark.column if mark else 0


class _Loader(yaml.SafeLoader):
    """A safe loader that reads a date as a text, like Kubernetes."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def documents(content: bytes) -> Iterator[Document]:
    """Yield every document that is not empty. A broken one does not affect the next."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Document(fault=f"it is not UTF-8 (byte {error.start}); save it as UTF-8.")
        return
    # A line that begins with --- ends a document everywhere, even in a quoted text.
    starts = [0, *(match.start() for match in _SEPARATOR.finditer(text) if match.start())]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        yield from _documents(text[start:end], text.count("\n", 0, start))


def _documents(text: str, first_line: int) -> Iterator[Document]:
    try:
        loader = _Loader(text)
        while loader.check_node():
            value = _value(loader)
            if value is not None:
                yield Document(value)
    except _FaultError as fault:
        yield Document(fault=f"line {first_line + fault.line + 1}, column {fault.column + 1}: {fault}.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {first_line + mark.line + 1}, column {mark.column + 1}: " if mark else ""
        # PyYAML quotes parts of the text, such as an alias or a tag. A password that begins with * or ! is read as one.
        problem = re.sub(r",? *(but (found|got))? *$", "", re.split("['\"#<]", error.problem or "")[0])
        yield Document(fault=f"{where}it is not valid YAML ({problem}); {_REMEDY}.")
    except yaml.reader.ReaderError as error:
        line = first_line + text.count("\n", 0, error.position) + 1
        yield Document(fault=f"line {line}: it holds a character that YAML does not allow; remove it.")
    except RecursionError:
        yield Document(fault="it is nested too deeply; a manifest has some ten levels.")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        yield Document(fault="it holds a number or a tagged value that cannot be read; put it in quotes.")


_REMEDY = "check the indentation, and put texts with special characters in quotes"


def _value(loader: _Loader) -> Any:  # noqa: ANN401 - any YAML value
    node = loader.get_node()
    if node is None:
        return None
    _check(node)
    return loader.construct_document(node)


def _check(root: yaml.Node) -> None:
    """Reject keys that are no texts or occur twice, and aliases that are recursive or expand to too much."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            raise _FaultError(node.start_mark, "an alias stands for a part that holds it; write it out")
        open_nodes.add(id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            total += sum(size(key) + size(value) for key, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(size(item) for item in node.value)
        open_nodes.discard(id(node))
        if total > MAX_NODES:
            raise _FaultError(node.start_mark, f"it stands for more than {MAX_NODES} values; split it")
        sizes[id(node)] = total
        return total

    size(root)


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.tag != "tag:yaml.org,2002:str":
            raise _FaultError(key.start_mark, "a key must be a text; put it in quotes")
        if key.value in seen:
            raise _FaultError(key.start_mark, "a key stands there for the second time; remove one")
        seen.add(key.value)
