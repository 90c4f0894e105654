"""All comparisons of a file of ticks and some strategies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from strategy_client.binding import Bound, Unbound, Wanted
from strategy_client.configuration import ConfigurationError, Problem, describe_error, did_you_mean
from strategy_client.events import MarketTick
from strategy_client.features import FeatureSet
from strategy_client.parity.feature_parity import compare_features
from strategy_client.parity.finding import Finding
from strategy_client.parity.model_parity import (
    ALONE,
    FITTED,
    NotAnsweredError,
    Rows,
    Served,
    compare_batch,
    compare_estimator,
)
from strategy_client.parity.series import Series, read_series
from strategy_client.replay.sidecar import Sidecar


class Proof:
    """Compares what learned strategies would see and be answered over recorded ticks.

    `wanted` is what they ask, `tokens` the instruments of each by its id; `estimators` the fitted ones by
    model. Raises ConfigurationError for an estimator of a model that no strategy asks.
    """

    def __init__(
        self, wanted: Sequence[Wanted], tokens: Mapping[str, Sequence[int]], estimators: Mapping[str, Any]
    ) -> None:
        self._wanted = wanted
        self._tokens = tokens
        self._estimators = estimators
        names = {each.model.name for each in wanted}
        for name in estimators:
            if name not in names:
                near = did_you_mean(name, names)
                text = (
                    f"no strategy asks {name!r}{near}; expected one of {', '.join(sorted(names)) or 'none'}"
                )
                raise ConfigurationError(Problem("--estimator", text))

    def findings(self, ticks: Iterable[MarketTick], sidecar: Sidecar) -> list[Finding]:
        """Compare everything, features first."""
        series = read_series(ticks)
        found = []
        sets: dict[tuple[tuple[str, ...], int], FeatureSet] = {
            (each.features.names, token): each.features
            for each in self._wanted
            for token in self._tokens[each.strategy_id]
        }
        for (_, token), features in sets.items():
            found.append(compare_features(series.get(token, Series(token)), features))
        done = set()
        for each in self._wanted:
            key = each.model, each.features.names, tuple(sorted(self._tokens[each.strategy_id]))
            if key not in done:
                done.add(key)
                found += self._models(each, series, sidecar)
        return found

    def _models(self, wanted: Wanted, series: Mapping[int, Series], sidecar: Sidecar) -> Iterable[Finding]:
        subject = wanted.model.name + (f":{wanted.model.version}" if wanted.model.version else "")
        if sidecar.bindings is None or sidecar.client is None:
            raise RuntimeError("a learned strategy without a sidecar")
        bound = sidecar.bindings.of(wanted.strategy_id)
        if isinstance(bound, Unbound):
            return [Finding(subject, ALONE, difference=f"{bound.reason.value}: {bound.detail}")]
        looked_at = [series[token] for token in self._tokens[wanted.strategy_id] if token in series]
        try:
            rows = Rows.of(looked_at, wanted, bound)
        except (Exception, SystemExit) as error:  # noqa: BLE001 whatever a user's own feature raises
            return [Finding(subject, ALONE, difference=f"its features: {describe_error(error)}")]
        if not len(rows.rows):
            return [Finding(subject, ALONE, skipped="the ticks give it no whole row", unproved=True)]
        return self._answers(subject, wanted, bound, rows, Served(sidecar.client, wanted, bound))

    def _answers(
        self, subject: str, wanted: Wanted, bound: Bound, rows: Rows, served: Served
    ) -> Iterable[Finding]:
        try:
            alone = served.answer(rows.rows, alone=True)
            together = served.answer(rows.rows, alone=False)
        except NotAnsweredError as error:
            return [Finding(subject, ALONE, difference=str(error))]
        found = [compare_batch(subject, rows, alone, together)]
        estimator = self._estimators.get(wanted.model.name)
        if estimator is None:
            text = f"no estimator given; --estimator {wanted.model.name}=FILE.joblib"
            return [*found, Finding(subject, FITTED, skipped=text)]
        return [*found, compare_estimator(subject, rows, alone, estimator, bound)]
