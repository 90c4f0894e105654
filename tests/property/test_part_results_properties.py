"""What is written by hand, beside what protobuf writes of the same."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from servables import FunctionServable
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.servable import VettingResult
from inference_server.core.tensor import NUMPY_DTYPES, TensorSpec
from inference_server.rpc.codec import encode_raw
from inference_server.rpc.part_results import PartResults, WrittenResponse
from inference_server.serving.data_plane import Answer, RowAnswer

# A `%` and a NUL, and lengths on both sides of where a varint takes a byte more.
NAMES = st.text(st.sampled_from("a%b\0é"), max_size=4) | st.sampled_from(["n" * 127, "n" * 128, "%" * 300])
SHAPES = st.lists(st.integers(0, 40), max_size=3).map(tuple)
FIXED = sorted(set(NUMPY_DTYPES) - {"BYTES"})


@st.composite
def arrays(draw: st.DrawFn) -> tuple[TensorSpec, np.ndarray]:
    """Return an output."""
    name, shape, datatype = draw(NAMES), draw(SHAPES), draw(st.sampled_from([*FIXED, "BYTES"]))
    count = int(np.prod(shape))
    if datatype == "BYTES":
        array = np.empty(count, np.object_)
        array[:] = [b"%b" * (place % 3) for place in range(count)]
    else:
        dtype = NUMPY_DTYPES[datatype]
        array = np.frombuffer(bytes(place % 256 for place in range(count * dtype.itemsize)), dtype)
    return TensorSpec(name, datatype, shape), array.reshape(shape)


VETTINGS = st.none() | st.builds(
    VettingResult, st.integers(0, 2**63 - 1), st.booleans(), text=st.just(""), memory_bytes=st.just(0)
)


@settings(max_examples=200, deadline=None)
@given(NAMES, st.lists(arrays(), max_size=4), VETTINGS, st.booleans(), st.integers(1, 2**40))
def test_a_part_is_written_as_protobuf_writes_it(
    name: str,
    outputs: list[tuple[TensorSpec, np.ndarray]],
    vetting: VettingResult | None,
    with_contract: bool,
    version: int,
) -> None:
    """Whatever is in an answer, by arrays or by bytes, the first time and from what is kept of it."""
    given_contract = {} if with_contract else {"contract": None}
    servable = FunctionServable(name, version, **given_contract)
    servable.outputs = tuple(spec for spec, _ in outputs)
    values = [array for _, array in outputs]
    raws = [encode_raw(array) for array in values]
    expected = wire.PredictResponse(
        id=name,
        parts=[
            wire.PartResult(
                model=name,
                version=version,
                digest=servable.digest,
                contract_hash=servable.contract.hash if servable.contract else "",
                outputs=[
                    wire.Tensor(name=spec.name, datatype=spec.datatype, shape=array.shape, raw=raw)
                    for (spec, array), raw in zip(outputs, raws, strict=True)
                ],
                vetted_at_ns=vetting.vetted_at_ns if vetting else 0,
                verified=vetting.verified if vetting else False,
            )
        ]
        * 3,
    )
    results, response = PartResults(), WrittenResponse(name)
    shapes = tuple(array.shape for array in values)
    response.add(results.write(Answer(servable, vetting, servable.outputs, values, 1, 0, 0)))
    response.add(results.write(RowAnswer(servable, vetting, shapes, raws, 0, 0)))
    response.add(results.write(Answer(servable, vetting, servable.outputs, values, 1, 0, 0)))
    written = response.message()
    assert written == expected
    assert written.SerializeToString() == b"".join(response.fields) == expected.SerializeToString()
