"""How much a message holds, counted on its bytes before they are parsed.

Parsing makes much of little: two bytes of an empty submessage are a hundred in memory and an object for
whoever walks them, two of an empty text are sixteen, one of a small number is eight; and it stops the event
loop meanwhile.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from inference_server.core.errors import InvalidRequestError
from inference_server.rpc.codec import MAX_TEXTS, MAX_TYPED_INTEGERS

MAX_FIELDS: Final = 1 << 16
SMALL_BYTES: Final = 1 << 16  # too few to hold so many fields
SHORT_BYTES: Final = 256  # of a submessage: what it may hold then is soon parsed
MAX_VARINT_BYTES: Final = 10
CONTINUED: Final = bytes(range(0x80, 0x100))  # bytes of a varint that are not its last
VARINTS: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_ENUM,
    }
)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Of a kind of message: what to look into, by field number, and which fields are packed integers.

    What is not longer than the number beside the kind is not looked into.
    """

    messages: Mapping[int, tuple[Descriptor, int]]
    packed: frozenset[int]
    is_leaf: bool


class FieldBound:
    """Refuses a message of one kind that holds too much."""

    def __init__(self, kind: type[Message]) -> None:
        root: Descriptor = kind.DESCRIPTOR  # type: ignore[assignment]  # one of upb's, the same to use
        self._name: Final = root.full_name
        self._root: Final = root
        self._layouts: dict[str, _Layout] = {}

    def check(self, raw: bytes) -> None:
        """Raise InvalidRequestError where there is more than a bound. What cannot be parsed passes.

        The bounds: MAX_FIELDS fields of the message and of what holds messages in it; of what holds none,
        MAX_TEXTS fields; and MAX_TYPED_INTEGERS packed integers.
        """
        if len(raw) > SMALL_BYTES:
            self._count(raw)

    def _count(self, raw: bytes) -> None:
        fields = texts = integers = 0
        spans = [(0, len(raw), self._root)]
        while spans:
            begin, end, descriptor = spans.pop()
            layout = self._layout(descriptor)
            leaf = layout.is_leaf and descriptor is not self._root
            for number, start, stop in _fields(raw, begin, end):
                if leaf:
                    texts += 1
                else:
                    fields += 1
                held = layout.messages.get(number)
                if held is not None:
                    if stop - start > held[1]:
                        spans.append((start, stop, held[0]))
                elif number in layout.packed:
                    integers += _integers(raw, start, stop)
                if fields > MAX_FIELDS or texts > MAX_TEXTS or integers > MAX_TYPED_INTEGERS:
                    self._refuse(fields, texts, len(raw))

    def _refuse(self, fields: int, texts: int, size_bytes: int) -> None:
        if fields > MAX_FIELDS:
            most = f"{MAX_FIELDS} fields"
        elif texts > MAX_TEXTS:
            most = f"{MAX_TEXTS} elements"
        else:
            most = f"{MAX_TYPED_INTEGERS} integers"
        raise InvalidRequestError(
            f"expected at most {most} in one {self._name}, came more in {size_bytes} bytes"
        )

    def _layout(self, descriptor: Descriptor) -> _Layout:
        known = self._layouts.get(descriptor.full_name)
        if known is None:
            held = {field.number: field.message_type for field in descriptor.fields if field.message_type}
            known = _Layout(
                messages={
                    number: (inner, 0 if _holds_many(inner) else SHORT_BYTES)
                    for number, inner in held.items()
                },
                packed=frozenset(
                    field.number
                    for field in descriptor.fields
                    if field.is_repeated and field.cpp_type in VARINTS
                ),
                is_leaf=not held,
            )
            self._layouts[descriptor.full_name] = known
        return known


def _holds_many(descriptor: Descriptor) -> bool:
    """Whether such a message can make much of little; of another kind, the bytes only cost time to parse."""
    return any(field.message_type or field.is_repeated for field in descriptor.fields)


def _integers(raw: bytes, start: int, stop: int) -> int:
    """Return how many varints there are; beyond the bound, any number that is."""
    if stop - start > MAX_TYPED_INTEGERS * MAX_VARINT_BYTES:
        return MAX_TYPED_INTEGERS + 1
    return len(raw[start:stop].translate(None, CONTINUED))


def _fields(raw: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield of each field its number, and where its bytes begin and end where it has a length."""
    while at < end:
        tag, at = _varint(raw, at, end)
        start = stop = at
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _varint(raw, at, end)
        elif wire_type == 1:
            at += 8
        elif wire_type == 2:
            length, start = _varint(raw, at, end)
            at = start + length
            stop = min(at, end)
        elif wire_type == 5:
            at += 4
        # A group has no length: its fields are counted where they stand.
        yield tag >> 3, start, stop


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number that begins at `at`, and where it ends; `end` where it does not end before."""
    number = shift = 0
    while at < end and shift < 70:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    return 0, end
