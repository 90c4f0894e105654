"""The types of what can be configured: what each takes, and what is told of a value that it does not take."""

import contextlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from inference_server.config_defaults import LOG_LEVELS
from inference_server.config_layers import VariableText
from inference_server.core.contract import MAX_INT64, check_model_name
from inference_server.core.errors import ContractError
from inference_server.rpc.address import Address, AddressError
from inference_server.rpc.tracing import check_endpoint
from inference_server.serving.policy import All, Latest, Specific, VersionPolicy
from inference_server.serving.settings import LabelError, check_label

UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
BYTES: Final = re.compile(rf"([0-9]{{1,19}}) ?({'|'.join(UNITS)})")
CAME_CHARACTERS: Final = 200


def wrong(text: str) -> PydanticCustomError:
    """Return the exception by which a validator of a setting tells what is wrong with it."""
    return PydanticCustomError("wrong", "{text}", {"text": text})


def came(value: object) -> str:
    """Return the value as a text that stays short."""
    text = repr(str(value) if isinstance(value, VariableText) else value)
    return text if len(text) <= CAME_CHARACTERS else f"{text[:CAME_CHARACTERS]}..."


def expected(what: str) -> WrapValidator:
    """Return the validator that says, of all that the type itself refuses, what was expected and what came.

    A variable's text may stand for what is no text in TOML: a number, true or false.
    """

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValueError:
            if isinstance(value, VariableText):
                with contextlib.suppress(ValueError):
                    return handler(json.loads(value))
            raise wrong(f"expected {what}, came {came(value)}") from None

    return WrapValidator(check)


def bytes_of(value: object) -> int:
    """Return a number of bytes above 0 from an integer or from a text such as "4 GiB"."""
    number = value if type(value) is int else 0
    if isinstance(value, str) and (match := BYTES.fullmatch(value)):
        number = int(match[1]) * UNITS[match[2]]
    if not 0 < number <= MAX_INT64:
        units = ", ".join(filter(None, UNITS))
        raise wrong(f'expected bytes above 0, or such as "4 GiB" (of {units}), came {came(value)}')
    return number


def _bounded_bytes(least: int, most: int) -> AfterValidator:
    def check(number: int) -> int:
        if not least <= number <= most:
            raise wrong(f"expected {least} to {most} bytes, came {number}")
        return number

    return AfterValidator(check)


def _mode(value: object) -> int:
    """Return the mode of a socket; without the owner's own rights it would be of no use."""
    if not isinstance(value, str) or not re.fullmatch("0?[67][0-7]{2}", value):
        raise wrong(f'expected the mode of a file in octal, such as "0660", came {came(value)}')
    return int(value, 8)


def _path(what: str) -> PlainValidator:
    def check(text: object) -> Path:
        if not isinstance(text, str) or not text or "\0" in text:
            raise wrong(f"expected {what}, came {came(text)}")
        return Path(text)

    return PlainValidator(check)


def _versions(value: object) -> VersionPolicy:
    if value == "all":
        return All()
    if isinstance(value, str) and (match := re.fullmatch(r"latest(?: ([1-9][0-9]{0,8}))?", value)):
        return Latest(int(match[1] or 1))
    if isinstance(value, list) and value and all(type(item) is int and item > 0 for item in value):
        return Specific(frozenset(value))
    raise wrong(f'expected "latest", "latest N", "all" or a list of versions, came {came(value)}')


def _shown_versions(policy: VersionPolicy) -> str | list[int]:
    return sorted(policy.versions) if isinstance(policy, Specific) else str(policy)


def _addresses(value: object) -> tuple[Address, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(address, str) for address in value):
        example = '["unix:/run/tickserve.sock", "127.0.0.1:8001"]'
        raise wrong(f"expected a list of addresses, such as {example}, came {came(value)}")
    try:
        return tuple(map(Address.parse, value))
    except AddressError as error:
        raise wrong(str(error)) from None


def _http(text: object) -> Address | None:
    if text == "off":
        return None
    address = None
    if isinstance(text, str):
        with contextlib.suppress(AddressError):
            address = Address.parse(text)
    if address is None or address.path is not None:
        raise wrong(f"expected HOST:PORT, or 'off', came {came(text)}")
    return address


def _host_names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(
        isinstance(it, str) and HOST_NAME.fullmatch(it) for it in value
    ):
        raise wrong(
            f'expected a list of names without ports, such as ["trading.example"], came {came(value)}'
        )
    return tuple(value)


def _table_of_labels(value: object) -> object:
    if not isinstance(value, dict):
        raise wrong(f"expected a table such as {{ stable = 3 }}, came {came(value)}")
    return value


def _label(text: str) -> str:
    try:
        check_label(text)
    except LabelError as error:
        raise wrong(str(error)) from None
    return text


def _model_name(text: str) -> str:
    try:
        check_model_name(text)
    except ContractError as error:
        raise wrong(str(error)) from None
    return text


def _endpoint(text: object) -> str:
    if not isinstance(text, str):
        raise wrong(f"expected http://HOST:PORT or https://HOST:PORT, came {came(text)}")
    try:
        return check_endpoint(text)
    except ValueError as error:
        raise wrong(str(error)) from None


def _level(text: object) -> str:
    level = text.upper() if isinstance(text, str) else ""
    if level not in LOG_LEVELS:
        raise wrong(f"expected {', '.join(LOG_LEVELS[:-1])} or {LOG_LEVELS[-1]}, came {came(text)}")
    return level


Flag = Annotated[bool, Strict(), expected("true or false")]
Count = Annotated[int, Strict(), Field(gt=0, le=MAX_INT64), expected("a whole number above 0")]
Ratio = Annotated[float, Strict(), Field(ge=0, le=1), expected("a number from 0 to 1")]
Endpoint = Annotated[str, PlainValidator(_endpoint)]
Bytes = Annotated[int, PlainValidator(bytes_of)]
MessageBytes = Annotated[Bytes, _bounded_bytes(1 << 20, (1 << 31) - 1)]
MetadataBytes = Annotated[Bytes, _bounded_bytes(4 << 10, 1 << 20)]
Streams = Annotated[int, Strict(), Field(gt=0, lt=1 << 31), expected("a whole number from 1 to 2147483647")]
Seconds = Annotated[float, Strict(), Field(gt=0, le=86400), expected("seconds above 0, at most 86400")]
Mode = Annotated[int, PlainValidator(_mode), PlainSerializer(lambda mode: f"{mode:04o}")]
Account = Annotated[str, Strict(), Field(min_length=1), expected("a name or number")]
File = Annotated[Path, _path("a file")]
Folder = Annotated[Path, _path("a folder")]
Control = Annotated[Literal["files", "explicit"], expected("'files' or 'explicit'")]
Transport = Annotated[Literal["auto", "grpcio", "h2"], expected("'auto', 'grpcio' or 'h2'")]
LogLevel = Annotated[str, PlainValidator(_level)]
Addresses = Annotated[
    tuple[Address, ...], PlainValidator(_addresses), PlainSerializer(lambda them: list(map(str, them)))
]
HttpAddress = Annotated[Address | None, PlainValidator(_http), PlainSerializer(lambda it: str(it or "off"))]
HostNames = Annotated[tuple[str, ...], PlainValidator(_host_names), PlainSerializer(list)]
Versions = Annotated[VersionPolicy, PlainValidator(_versions), PlainSerializer(_shown_versions)]
Version = Annotated[int, Strict(), Field(gt=0, le=MAX_INT64), expected("a version above 0")]
Labels = Annotated[dict[Annotated[str, AfterValidator(_label)], Version], BeforeValidator(_table_of_labels)]
ModelName = Annotated[str, AfterValidator(_model_name)]
