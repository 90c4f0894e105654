"""One record's values read into a tick."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, TypeVar

from strategy_client.configuration import TicksConfig, did_you_mean
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import BadFileError, FieldError, shortened
from strategy_client.sources.timestamp import TimestampReader

ALPHA_PANDA_COLUMN = "instrument_token"
MAX_NAMED_TOKENS = 5
MAX_QUANTITY = 10**18
# Of texts that come again and again, as prices and sizes do, so many are read once.
MAX_KNOWN_TEXTS: Final = 16_384
MAX_KNOWN_CHARACTERS: Final = 32

ReadT = TypeVar("ReadT")


class KnownTexts(dict[str, ReadT]):
    """What texts were read as: `known[text]` reads one that is new. Raises what `read` raises, each time."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[str], ReadT]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> ReadT:
        value = self._read(text)
        if len(text) <= MAX_KNOWN_CHARACTERS:
            if len(self) >= MAX_KNOWN_TEXTS:
                self.clear()
            self[text] = value
        return value


class RecordReader:
    """Knows from the configuration which values a tick is made of.

    `tokens` are the instruments that may come; None lets all pass. `columns` is the header; None where every
    record names its own fields. Raises BadFileError for a column that is not there.
    """

    def __init__(
        self,
        config: TicksConfig,
        tokens: Collection[int] | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        self.time = config.time
        self.price = config.price
        self.volume = config.volume
        self.symbol = config.symbol
        self.token_column = config.token if isinstance(config.token, str) else None
        self._token = config.token if isinstance(config.token, int) else None
        if config.token is None and (config.symbol is None or not config.instruments):
            self.token_column = ALPHA_PANDA_COLUMN
        self._instruments: Mapping[str, int] = config.instruments
        self._tokens = frozenset(tokens) if tokens is not None else None
        self._prices = KnownTexts(lambda text: read_price(self.price, text))
        self._sizes = KnownTexts(lambda text: read_whole(self.volume or "volume", text))
        self._numbers = KnownTexts(self._read_named_token)
        self._timestamps = TimestampReader(config.time, config.time_format, config.timezone)
        if columns is not None:
            self._find_columns(columns)

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are read, by what they hold."""
        named = {
            "time": self.time,
            "price": self.price,
            "volume": self.volume,
            "symbol": self.symbol,
            "token": self.token_column,
        }
        return {role: column for role, column in named.items() if column is not None}

    def read(
        self,
        time: object,
        price: object,
        token: object = None,
        symbol: object = None,
        volume: object = None,
    ) -> MarketTick:
        """Return the tick; FieldError names the value that cannot be used.

        `volume` is the size of the trade.
        """
        if type(volume) is str:
            size = self._sizes[volume] if volume else None
        else:
            size = None if volume is None else read_whole(self.volume or "volume", volume)
        return MarketTick(
            self._read_token(token, symbol),
            self._prices[price] if type(price) is str else read_price(self.price, price),
            self._timestamps.read(time),
            None if symbol is None else str(symbol),
            last_traded_quantity=size,
        )

    def _find_columns(self, header: Sequence[str]) -> None:
        for role, column in self.columns.items():
            if header.count(column) > 1:
                raise BadFileError(f"column {column!r} stands twice; ticks.{role} or --{role} needs one")
            if column not in header:
                found = shortened(", ".join(header)) if any(header) else "none"
                raise BadFileError(
                    f"column {column!r} is missing{did_you_mean(column, header)}: expected by "
                    f"ticks.{role} or --{role}; the file has {found}"
                )

    def _read_token(self, token: object, symbol: object) -> int:
        if self._token is not None:
            return self._wanted(self._token)
        # Without a column of tokens the symbol names the instrument.
        given = symbol if self.token_column is None else token
        return self._numbers[given] if type(given) is str else self._read_named_token(given)

    def _read_named_token(self, given: object) -> int:
        if self.token_column is not None:
            try:
                number = int(str(given))
            except ValueError:
                raise FieldError(self.token_column, "an instrument token, an integer", given) from None
        else:
            known = self._instruments.get(str(given))
            if known is None:
                names = ", ".join(sorted(self._instruments))
                raise FieldError(
                    self.symbol or "symbol", f"an instrument of ticks.instruments: {names}", given
                )
            number = known
        return self._wanted(number)

    def _wanted(self, number: int) -> int:
        if self._tokens is not None and number not in self._tokens:
            named = sorted(self._tokens)
            more = " ..." if len(named) > MAX_NAMED_TOKENS else ""
            expected = (
                f"an instrument of the strategies: {', '.join(map(str, named[:MAX_NAMED_TOKENS]))}{more}"
            )
            raise FieldError(self.token_column or self.symbol or "token", expected, number)
        return number


def read_number(field: str, value: object, expected: str = "a finite number") -> Decimal:
    """Return a finite number as it is written; FieldError for anything else."""
    text = str(value)
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise FieldError(field, "a number", value) from None
    # Python reads 1_000 as a number; in a file it is a fault.
    if not number.is_finite() or "_" in text:
        raise FieldError(field, expected, value)
    return number


def read_price(field: str, value: object) -> Decimal:
    """Return a price; FieldError unless it is a number above 0 that a float can hold."""
    expected = "a finite number above 0"
    price = read_number(field, value, expected)
    if not 0 < float(price) < math.inf:
        raise FieldError(field, expected, value)
    return price


def read_whole(field: str, value: object) -> int:
    """Return a quantity; FieldError unless it is an integer from 0 to `MAX_QUANTITY`."""
    expected = f"an integer from 0 to {MAX_QUANTITY}"
    number = read_number(field, value, expected)
    if not (0 <= number <= MAX_QUANTITY and number == number.to_integral_value()):
        raise FieldError(field, expected, value)
    return int(number)
