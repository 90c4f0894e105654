"""What a learned strategy asked on a tick, and what the answer to that said."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from strategy_client.binding import Bound
from strategy_client.events import Reason
from strategy_client.feature_row import Outside
from strategy_client.processors.model import ClassMeanings
from strategy_client.questions import Place


@dataclass(slots=True, eq=False)
class Asked:
    """A row that waits for its answer, and the binding under which it was asked.

    `compared` says whether it was compared with a training range, `outside` what of it is not within that.
    """

    bound: Bound
    row: NDArray[np.float32]
    place: Place
    compared: bool = False
    outside: Outside = ()


class Said(NamedTuple):
    """What an answer says by a rule, where the classes have these meanings: a side, or why there is none.

    `source` is the model, the version and the digest that answered; `metadata` is that of the outcome.
    """

    rule: Hashable
    meanings: ClassMeanings | None
    source: tuple[str, int, str]
    metadata: Mapping[str, Any]
    reason: Reason
    side: Literal["BUY", "SELL"] | None = None
    confidence: float = 0.0
