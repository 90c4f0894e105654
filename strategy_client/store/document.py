"""A YAML file as plain values, with the line that each of them stands on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from strategy_client.configuration import ConfigurationError, Problem

MAX_BYTES: Final = 1_048_576
# Also what stops an alias that holds itself, or one that stands for a billion others.
MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 32

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value, and the line of each key and list item by its place, the first line being 1."""

    path: Path
    value: Any
    lines: Mapping[Place, int]

    def problem(self, place: Place, text: str) -> Problem:
        """Return a problem that names file, line and place; the nearest line above where a key is missing."""
        known = place
        while known not in self.lines and known:
            known = known[:-1]
        where = f"{self.path}:{self.lines.get(known, 1)}"
        return Problem(f"{where}: {_dotted(place)}" if place else where, text)


def read_document(path: Path) -> Document:
    """Read one YAML file. Raises ConfigurationError where it cannot be read, or a key stands twice."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(Problem(str(path), f"expected at most {MAX_BYTES} bytes"))
    walk = _Walk()
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        value = walk.value(loader, root, ()) if root is not None else None
    except yaml.YAMLError as error:
        raise ConfigurationError(Problem(_marked(path, error), f"not YAML: {_said(error)}")) from error
    except ValueError as error:
        raise ConfigurationError(Problem(str(path), f"not YAML: {error}")) from error
    except RecursionError as error:
        raise ConfigurationError(Problem(str(path), "not YAML: nested too deeply")) from error
    document = Document(path, value, walk.lines)
    if walk.faults:
        raise ConfigurationError(*(document.problem(place, text) for place, text in walk.faults))
    return document


class _UnboundedError(ValueError):
    """More than the bounds of this module."""


class _Walk:
    def __init__(self) -> None:
        self._nodes = 0
        self.lines: dict[Place, int] = {}
        self.faults: list[tuple[Place, str]] = []

    def value(self, loader: yaml.SafeLoader, node: yaml.Node, place: Place) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _UnboundedError(f"more than {MAX_NODES} values")
        if len(place) > MAX_DEPTH:
            raise _UnboundedError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(loader, item, (*place, index)) for index, item in enumerate(node.value)]
        try:
            return loader.construct_object(node)
        except (ValueError, AttributeError, LookupError, TypeError) as error:
            # PyYAML lets these out for a value that is not what its tag says: a date of a 13th month.
            kind = node.tag.rpartition(":")[2]
            problem = f"{node.value!r} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def _item(self, loader: yaml.SafeLoader, node: yaml.Node, place: Place) -> Any:
        self.lines[place] = node.start_mark.line + 1
        return self.value(loader, node, place)

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*place, key)
            line = key_node.start_mark.line + 1
            if key in values:
                self.faults.append((here, f"stands twice, in lines {self.lines[here]} and {line}"))
                continue
            self.lines[here] = line
            values[key] = self.value(loader, value_node, here)
        return values


def _dotted(place: Place) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".")


def _marked(path: Path, error: yaml.YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    return f"{path}:{mark.line + 1}" if mark else str(path)


def _said(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        return error.problem or error.context or "cannot be parsed"
    return str(error).splitlines()[0]
