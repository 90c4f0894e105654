"""A YAML file as plain values, with the line and column that each of them stands at."""

import codecs
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from strategy_client.configuration import ConfigurationError, Problem
from strategy_client.store.section import MAX_BYTES, Place, dotted, is_writable, shown

# Also what stops an alias that holds itself, or one that stands for a billion others.
MAX_NODES: Final = 100_000
MAX_DEPTH: Final = 32

# YAML 1.1 reads 0256265 as an octal number and 12:30 as one to the base of 60; nobody means that here.
_PLAIN_NUMBER: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*)(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9].*")
_NUMBER_TAGS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Document:
    """A file's value, and line and column of each key and list item by its place, the first being 1."""

    path: Path
    value: Any
    marks: Mapping[Place, tuple[int, int]]

    def problem(self, place: Place, text: str) -> Problem:
        """Return a problem that names file, line, column and place; of the mapping where a key is missing."""
        known = place
        while known not in self.marks and known:
            known = known[:-1]
        line, column = self.marks.get(known, (1, 1))
        where = f"{self.path}:{line}:{column}"
        return Problem(f"{where}: {dotted(place)}" if place else where, text)


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises ConfigurationError where it cannot be read or is too large."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(Problem(str(path), f"expected at most {MAX_BYTES} bytes"))
    return content


def _open_at_once(path: str, flags: int) -> int:
    # A named pipe that nobody writes into is empty, and not waited for.
    file = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(file, True)
    return file


def parse_document(path: Path, content: bytes) -> Document:
    """Parse what stands in a YAML file. Raises ConfigurationError for what is no YAML, or a key twice."""
    walk = _Walk()
    try:
        loader = yaml.SafeLoader(content)
        root = loader.get_single_node()
        value = walk.value(loader, root, ()) if root is not None else None
    except yaml.YAMLError as error:
        raise ConfigurationError(
            Problem(_marked(path, content, error), f"not YAML: {_said(error)}")
        ) from error
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(Problem(str(path), f"not YAML: {error}")) from error
    except RecursionError as error:
        raise ConfigurationError(Problem(str(path), "not YAML: nested too deeply")) from error
    document = Document(path, value, walk.marks)
    if walk.faults:
        raise ConfigurationError(*(document.problem(place, text) for place, text in walk.faults))
    return document


class _UnboundedError(ValueError):
    """More than the bounds of this module."""


class _Walk:
    def __init__(self) -> None:
        self._nodes = 0
        self.marks: dict[Place, tuple[int, int]] = {}
        self.faults: list[tuple[Place, str]] = []

    def value(self, loader: yaml.SafeLoader, node: yaml.Node, place: Place) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _UnboundedError(f"more than {MAX_NODES} values")
        if len(place) > MAX_DEPTH:
            raise _UnboundedError(f"nested more than {MAX_DEPTH} deep")
        if isinstance(node, yaml.MappingNode):
            _refuse_tag(node, loader.DEFAULT_MAPPING_TAG)
            return self._mapping(loader, node, place)
        if isinstance(node, yaml.SequenceNode):
            _refuse_tag(node, loader.DEFAULT_SEQUENCE_TAG)
            return [self._item(loader, item, (*place, index)) for index, item in enumerate(node.value)]
        try:
            value = loader.construct_object(node)
        except (ValueError, AttributeError, LookupError, TypeError) as error:
            # PyYAML lets these out for a value that is not what its tag says: a date of a 13th month.
            kind = node.tag.rpartition(":")[2]
            problem = f"{shown(node.value)} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        if _is_odd_number(node):
            self.faults.append((place, f"{node.value} means {value} in YAML; expected a decimal number"))
        if isinstance(value, str) and not is_writable(value):
            self.faults.append((place, f"expected characters of Unicode, came {shown(value)}"))
        return value

    def _item(self, loader: yaml.SafeLoader, node: yaml.Node, place: Place) -> Any:
        self.marks[place] = _mark(node)
        return self.value(loader, node, place)

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        # First what is merged: the mark of a key of the mapping's own replaces that of a merged one.
        merged = self._merges(loader, node, place)
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "expected a text as the key", key_node.start_mark
                )
            key = str(key_node.value)
            here = (*place, key)
            line, column = _mark(key_node)
            if not is_writable(key):
                self.faults.append((here, "expected characters of Unicode in the key"))
            if key in values:
                first = self.marks[here][0]
                self.faults.append((here, f"stands twice, in lines {first} and {line}"))
                continue
            self.marks[here] = (line, column)
            values[key] = self.value(loader, value_node, here)
        return merged | values

    def _merges(self, loader: yaml.SafeLoader, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found = [(key, value) for key, value in node.value if key.tag == _MERGE_TAG]
        for key, _ in found[1:]:
            here = (*place, "<<")
            self.marks[here] = _mark(key)
            text = f"stands twice, in lines {_mark(found[0][0])[0]} and {_mark(key)[0]}; expected one list"
            self.faults.append((here, text))
        return self._merged(loader, found[0][1], place) if found else {}

    def _merged(self, loader: yaml.SafeLoader, node: yaml.Node, place: Place) -> dict[str, Any]:
        """Return what `<<` stands for: keys of other mappings, the first of a list winning."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "expected a mapping to merge", source.start_mark
                )
            merged = self.value(loader, source, place) | merged
        return merged


def _mark(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _is_odd_number(node: yaml.Node) -> bool:
    return (
        node.tag in _NUMBER_TAGS
        and not _PLAIN_NUMBER.fullmatch(node.value)
        and node.value.lstrip("+-").casefold() not in (".inf", ".nan")
    )


def _refuse_tag(node: yaml.Node, expected: str) -> None:
    if node.tag != expected:
        problem = f"could not determine a constructor for the tag {node.tag!r}"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _marked(path: Path, content: bytes, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        line, column = error.problem_mark.line, error.problem_mark.column
    elif isinstance(error, yaml.reader.ReaderError) and not content.startswith(_UTF_16):
        # Its position is that of a byte where the bytes are no text, else that of a character.
        is_byte = error.encoding == "utf-8"
        before = (content[: error.position] if is_byte else content).decode(errors="replace")
        before = before if is_byte else before[: error.position]
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
    else:
        return str(path)
    return f"{path}:{line + 1}:{column + 1}"


def _said(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        context = "" if (error.context or "while").startswith("while") else error.context
        return ", ".join(part for part in (context, error.problem) if part) or "cannot be parsed"
    if isinstance(error, yaml.reader.ReaderError) and error.encoding != "unicode":
        return f"expected text in UTF-8, came the byte 0x{error.character:02x}"
    return str(error).splitlines()[0]
