"""The tables of the configuration. What a key means stands beside the class that its table configures."""

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inference_server.adapters.certificate import TlsOptions
from inference_server.adapters.shared_memory import SharedMemoryOptions
from inference_server.adapters.token_file import TokenOptions
from inference_server.config_values import (
    Account,
    Bytes,
    Count,
    Endpoint,
    File,
    Flag,
    HostNames,
    Labels,
    MessageBytes,
    MetadataBytes,
    Mode,
    Ratio,
    Seconds,
    Streams,
    Versions,
    wrong,
)
from inference_server.http.page_options import PageOptions
from inference_server.rpc.address import SocketOptions
from inference_server.rpc.guard import GuardOptions
from inference_server.rpc.listener import ListenerOptions
from inference_server.rpc.tracing import TracingOptions
from inference_server.serving.data_plane import DataPlaneOptions
from inference_server.serving.settings import DEFAULT_SETTINGS
from inference_server.serving.turns import TurnsOptions

SHARED_MEMORY: Final = SharedMemoryOptions()
LIMITS: Final = DataPlaneOptions()
GUARD: Final = GuardOptions()
SOCKET: Final = SocketOptions()
LISTENER: Final = ListenerOptions()
PAGE: Final = PageOptions()


class Section(BaseModel):
    """A table of the configuration: every key has a default, and there are no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Section):
    """`[model.NAME]`: what an operator says of one model.

    `required`: the sidecar is not ready without it. The rest is as in ModelSettings.
    """

    versions: Versions = DEFAULT_SETTINGS.policy
    required: Flag = False
    allow_contract_change: Flag = DEFAULT_SETTINGS.allow_contract_change
    labels: Labels = Field(default_factory=dict)
    max_calls: Count | None = DEFAULT_SETTINGS.max_calls


class LimitsSection(Section):
    """`[limits]`: how much may be in flight, how many runs go on in threads, and bounds of the transport."""

    max_calls: Count = LIMITS.max_calls_in_flight
    max_calls_per_model: Count = LIMITS.max_calls_per_model
    max_input_bytes: Bytes = LIMITS.max_input_bytes
    runs_at_once: Count = LIMITS.turns.at_once
    runs_per_version: Count = LIMITS.turns.per_servable
    max_streams: Count = GUARD.max_streams
    max_connections: Count = LISTENER.max_connections
    max_message: MessageBytes = LISTENER.max_message_bytes
    max_metadata: MetadataBytes = LISTENER.max_metadata_bytes
    max_streams_per_connection: Streams = LISTENER.max_streams_per_connection
    keepalive_s: Seconds = LISTENER.keepalive_s
    keepalive_timeout_s: Seconds = LISTENER.keepalive_timeout_s
    min_ping_interval_s: Seconds = LISTENER.min_ping_interval_s
    drain_timeout_s: Seconds = LISTENER.drain_timeout_s

    @property
    def data_plane(self) -> DataPlaneOptions:
        """What the data plane is told."""
        return DataPlaneOptions(
            max_calls_in_flight=self.max_calls,
            max_calls_per_model=self.max_calls_per_model,
            max_input_bytes=self.max_input_bytes,
            turns=TurnsOptions(per_servable=self.runs_per_version, at_once=self.runs_at_once),
        )

    @property
    def guard(self) -> GuardOptions:
        """What the guard of every RPC is told."""
        return GuardOptions(self.max_streams)


class SharedMemorySection(Section):
    """`[shared_memory]`: whether tensors may lie in shared memory, and the bounds of SharedMemoryOptions."""

    enabled: Flag = False
    max_regions: Count = SHARED_MEMORY.max_regions
    max_region_bytes: Bytes = SHARED_MEMORY.max_region_bytes
    max_total_bytes: Bytes = SHARED_MEMORY.max_total_bytes

    @property
    def options(self) -> SharedMemoryOptions | None:
        """What the sidecar is told; None while it is off."""
        if not self.enabled:
            return None
        return SharedMemoryOptions(self.max_regions, self.max_region_bytes, self.max_total_bytes)


class TlsSection(Section):
    """`[tls]`: PEM files. As in TlsOptions; without a certificate there is no TLS."""

    certificate: File | None = None
    key: File | None = None
    client_ca: File | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise wrong("expected a certificate and its key, came one of them")
        if self.client_ca and not self.certificate:
            raise wrong("client_ca: expected a certificate and its key as well")
        return self

    @property
    def options(self) -> TlsOptions | None:
        """What the listeners are told."""
        if self.certificate is None or self.key is None:
            return None
        return TlsOptions(self.certificate, self.key, self.client_ca)


class TokensSection(Section):
    """`[tokens]`: files of bearer tokens, as in TokenOptions."""

    predict: File | None = None
    control: File | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.predict and not self.control:
            raise wrong("predict: expected control as well, else what changes models is open to everyone")
        return self

    @property
    def options(self) -> TokenOptions:
        """What the access is told."""
        return TokenOptions(self.predict, self.control)


class SocketSection(Section):
    """`[socket]`: who may use the Unix sockets, as in SocketOptions."""

    mode: Mode = SOCKET.mode
    owner: Account | None = SOCKET.owner
    group: Account | None = SOCKET.group


class TracingSection(Section):
    """`[tracing]`: where OpenTelemetry traces go, and how many; see TracingOptions."""

    endpoint: Endpoint | None = None
    sample_ratio: Ratio | None = None

    @property
    def options(self) -> TracingOptions:
        """What the sidecar is told."""
        return TracingOptions(self.endpoint or "", self.sample_ratio)


class PageSection(Section):
    """`[page]`: how browsers reach the status page; see PageOptions."""

    hosts: HostNames = PAGE.hosts

    @property
    def options(self) -> PageOptions:
        """What the sidecar is told."""
        return PageOptions(hosts=self.hosts)
