"""Triton's `statistics` extension: what was asked of each version, how it ended, and where the time went."""

from collections.abc import Iterator
from typing import Final

from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import NotFoundError
from inference_server.core.servable import State
from inference_server.rpc.method import CallContext, Group, Method
from inference_server.rpc.open_inference import SERVICE
from inference_server.rpc.version import parse_version
from inference_server.serving.registry import Registry
from inference_server.serving.signature import shown
from inference_server.serving.statistics import Durations, Statistics, VersionStatistics

# How a caller asks for the calls that never reached a version; no version of a model has this number.
UNREACHED: Final = "0"
NS_PER_MS: Final = 10**6


class ModelStatistics:
    """The extension's one function."""

    def __init__(self, statistics: Statistics, registry: Registry) -> None:
        self._statistics = statistics
        self._registry = registry

    def methods(self) -> list[Method]:
        """Return the extension's row of the method table."""
        return [
            Method(
                f"/{SERVICE}/ModelStatistics",
                oip.ModelStatisticsRequest,
                oip.ModelStatisticsResponse,
                Group.PREDICT,
                unary=self.model_statistics,
            )
        ]

    async def model_statistics(
        self, request: oip.ModelStatisticsRequest, call: CallContext
    ) -> oip.ModelStatisticsResponse:
        """Return the numbers of one moment; which versions, the `.proto` says.

        Raises NotFoundError for a model or version that is not known, UnavailableError for one that is known
        but neither answers nor ever did.
        """
        del call
        response = oip.ModelStatisticsResponse()
        for name in [request.name] if request.name else self._names():
            for version in self._versions(name, request.version):
                response.model_stats.append(self._encode(name, version))
        return response

    def _names(self) -> list[str]:
        known = {model.name for model in self._registry.describe()}
        return sorted(known | set(self._statistics.models))

    def _versions(self, name: str, asked: str) -> list[int]:
        """Return the versions that an answer holds. There are three cases.

        1. None is named: those that are available or have ended a call; a model that is known may have none.
        2. The calls that reached none.
        3. One is named, by number or label. One that is gone still has its numbers.
        """
        counted = self._statistics.models.get(name, {})
        if not counted and not self._registry.knows(name):
            raise NotFoundError(f"no model {shown(name)}")
        if not asked:
            return sorted({*counted, *self._available(name)} - {0})
        if asked == UNREACHED:
            return [0]
        which = parse_version(asked)
        if isinstance(which, int) and which in counted:
            return [which]
        return [self._registry.resolve(name, which).servable.id.version]

    def _available(self, name: str) -> Iterator[int]:
        for model in self._registry.describe([name]):
            for version in model.versions:
                if version.state is State.AVAILABLE:
                    yield version.id.version

    def _encode(self, name: str, version: int) -> oip.ModelStatistics:
        counted = self._statistics.models.get(name, {}).get(version) or VersionStatistics()
        fail = oip.StatisticDuration(
            count=counted.failures, ns=sum(durations.sum_ns for durations in counted.failed.values())
        )
        return oip.ModelStatistics(
            name=name,
            version=str(version),
            last_inference=counted.last_answered_ns // NS_PER_MS,
            inference_count=counted.rows,
            execution_count=counted.answered,
            inference_stats=oip.InferStatistics(
                success=_duration(counted.total),
                fail=fail,
                queue=_duration(counted.queue),
                compute_input=_duration(counted.input),
                compute_infer=_duration(counted.infer),
                compute_output=_duration(counted.output),
                cache_hit=oip.StatisticDuration(),
                cache_miss=oip.StatisticDuration(),
            ),
        )


def _duration(durations: Durations) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=durations.count, ns=durations.sum_ns)
