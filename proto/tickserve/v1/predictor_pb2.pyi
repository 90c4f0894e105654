from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictRequest(_message.Message):
    __slots__ = ("id", "parts", "timeout_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_US_FIELD_NUMBER: _ClassVar[int]
    id: str
    parts: _containers.RepeatedCompositeFieldContainer[PredictPart]
    timeout_us: int
    def __init__(self, id: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[PredictPart, _Mapping]]] = ..., timeout_us: _Optional[int] = ...) -> None: ...

class PredictPart(_message.Message):
    __slots__ = ("model", "version", "contract_hash", "rows", "features", "label")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_HASH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    contract_hash: str
    rows: int
    features: bytes
    label: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., contract_hash: _Optional[str] = ..., rows: _Optional[int] = ..., features: _Optional[bytes] = ..., label: _Optional[str] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("id", "parts", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: str
    parts: _containers.RepeatedCompositeFieldContainer[PartResult]
    error: PartStatus
    def __init__(self, id: _Optional[str] = ..., parts: _Optional[_Iterable[_Union[PartResult, _Mapping]]] = ..., error: _Optional[_Union[PartStatus, _Mapping]] = ...) -> None: ...

class PartStatus(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class PartResult(_message.Message):
    __slots__ = ("status", "model", "version", "digest", "contract_hash", "outputs", "vetted_at_ns", "verified")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_HASH_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    VETTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    status: PartStatus
    model: str
    version: int
    digest: str
    contract_hash: str
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    vetted_at_ns: int
    verified: bool
    def __init__(self, status: _Optional[_Union[PartStatus, _Mapping]] = ..., model: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ..., contract_hash: _Optional[str] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., vetted_at_ns: _Optional[int] = ..., verified: _Optional[bool] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "datatype", "shape", "raw")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    name: str
    datatype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    raw: bytes
    def __init__(self, name: _Optional[str] = ..., datatype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., raw: _Optional[bytes] = ...) -> None: ...

class DescribeModelsRequest(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, models: _Optional[_Iterable[str]] = ...) -> None: ...

class DescribeModelsResponse(_message.Message):
    __slots__ = ("models", "ready")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelDescription]
    ready: bool
    def __init__(self, models: _Optional[_Iterable[_Union[ModelDescription, _Mapping]]] = ..., ready: _Optional[bool] = ...) -> None: ...

class ModelDescription(_message.Message):
    __slots__ = ("name", "versions", "default_version", "problem", "behind_since_ns", "pinned_version", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    BEHIND_SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    PINNED_VERSION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    versions: _containers.RepeatedCompositeFieldContainer[VersionDescription]
    default_version: int
    problem: str
    behind_since_ns: int
    pinned_version: int
    labels: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[VersionDescription, _Mapping]]] = ..., default_version: _Optional[int] = ..., problem: _Optional[str] = ..., behind_since_ns: _Optional[int] = ..., pinned_version: _Optional[int] = ..., labels: _Optional[_Mapping[str, int]] = ...) -> None: ...

class VersionDescription(_message.Message):
    __slots__ = ("version", "state", "reason", "digest", "contract", "inputs", "outputs", "available_since_ns", "warm_up_ns", "rows_answered", "vetted_at_ns", "verified", "vetting", "memory_bytes", "refused")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[VersionDescription.State]
        START: _ClassVar[VersionDescription.State]
        LOADING: _ClassVar[VersionDescription.State]
        AVAILABLE: _ClassVar[VersionDescription.State]
        UNLOADING: _ClassVar[VersionDescription.State]
        END: _ClassVar[VersionDescription.State]
    STATE_UNSPECIFIED: VersionDescription.State
    START: VersionDescription.State
    LOADING: VersionDescription.State
    AVAILABLE: VersionDescription.State
    UNLOADING: VersionDescription.State
    END: VersionDescription.State
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    WARM_UP_NS_FIELD_NUMBER: _ClassVar[int]
    ROWS_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    VETTED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    VETTING_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: VersionDescription.State
    reason: str
    digest: str
    contract: Contract
    inputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    available_since_ns: int
    warm_up_ns: int
    rows_answered: int
    vetted_at_ns: int
    verified: bool
    vetting: str
    memory_bytes: int
    refused: bool
    def __init__(self, version: _Optional[int] = ..., state: _Optional[_Union[VersionDescription.State, str]] = ..., reason: _Optional[str] = ..., digest: _Optional[str] = ..., contract: _Optional[_Union[Contract, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., available_since_ns: _Optional[int] = ..., warm_up_ns: _Optional[int] = ..., rows_answered: _Optional[int] = ..., vetted_at_ns: _Optional[int] = ..., verified: _Optional[bool] = ..., vetting: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., refused: _Optional[bool] = ...) -> None: ...

class TensorSpec(_message.Message):
    __slots__ = ("name", "datatype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    datatype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., datatype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Contract(_message.Message):
    __slots__ = ("hash", "feature_names", "window", "includes_current_tick", "nan_policy", "outputs", "training_ranges", "estimator", "libraries", "trained_at_ns")
    class NanPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NAN_POLICY_UNSPECIFIED: _ClassVar[Contract.NanPolicy]
        REFUSE: _ClassVar[Contract.NanPolicy]
        ACCEPT: _ClassVar[Contract.NanPolicy]
    NAN_POLICY_UNSPECIFIED: Contract.NanPolicy
    REFUSE: Contract.NanPolicy
    ACCEPT: Contract.NanPolicy
    class LibrariesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HASH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    INCLUDES_CURRENT_TICK_FIELD_NUMBER: _ClassVar[int]
    NAN_POLICY_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_RANGES_FIELD_NUMBER: _ClassVar[int]
    ESTIMATOR_FIELD_NUMBER: _ClassVar[int]
    LIBRARIES_FIELD_NUMBER: _ClassVar[int]
    TRAINED_AT_NS_FIELD_NUMBER: _ClassVar[int]
    hash: str
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    window: int
    includes_current_tick: bool
    nan_policy: Contract.NanPolicy
    outputs: _containers.RepeatedCompositeFieldContainer[OutputMeaning]
    training_ranges: _containers.RepeatedCompositeFieldContainer[FeatureRange]
    estimator: str
    libraries: _containers.ScalarMap[str, str]
    trained_at_ns: int
    def __init__(self, hash: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ..., window: _Optional[int] = ..., includes_current_tick: _Optional[bool] = ..., nan_policy: _Optional[_Union[Contract.NanPolicy, str]] = ..., outputs: _Optional[_Iterable[_Union[OutputMeaning, _Mapping]]] = ..., training_ranges: _Optional[_Iterable[_Union[FeatureRange, _Mapping]]] = ..., estimator: _Optional[str] = ..., libraries: _Optional[_Mapping[str, str]] = ..., trained_at_ns: _Optional[int] = ...) -> None: ...

class OutputMeaning(_message.Message):
    __slots__ = ("name", "kind", "classes", "meanings")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[OutputMeaning.Kind]
        LABEL: _ClassVar[OutputMeaning.Kind]
        PROBABILITIES: _ClassVar[OutputMeaning.Kind]
        VALUE: _ClassVar[OutputMeaning.Kind]
    KIND_UNSPECIFIED: OutputMeaning.Kind
    LABEL: OutputMeaning.Kind
    PROBABILITIES: OutputMeaning.Kind
    VALUE: OutputMeaning.Kind
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    MEANINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: OutputMeaning.Kind
    classes: _containers.RepeatedScalarFieldContainer[str]
    meanings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[OutputMeaning.Kind, str]] = ..., classes: _Optional[_Iterable[str]] = ..., meanings: _Optional[_Iterable[str]] = ...) -> None: ...

class FeatureRange(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...
