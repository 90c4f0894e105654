"""What the parameters of an inference request mean here.

There are four cases:
1. What is done: `timeout`. What `rpc.shared_tensors` reads: `shared_memory_*`.
2. What changes nothing here, of the right kind: `priority` (there is one level; Triton ignores it for such a
   model too), `triton_enable_empty_final_response` (each request has exactly one answer).
3. What would change the answer or how it is made, and is not done: refused by its name, unless its value asks
   for what is done anyway.
4. Any other is its caller's own: a tag, a trace id, a client's note of how it encoded a tensor. It is
   ignored, as a Triton backend ignores what it does not know: to refuse it would shut out clients that exist.
"""

from collections.abc import Mapping
from typing import Final

from open_inference.v2 import inference_pb2 as oip

from inference_server.core.errors import InvalidRequestError
from inference_server.serving.signature import shown

MAX_PARAMETERS: Final = 64
MAX_NAME_CHARACTERS: Final = 256

Parameters = Mapping[str, oip.InferParameter]
Value = bool | int | str | float

INTEGERS: Final = ("int64_param", "uint64_param")
BOOL: Final = ("bool_param",)
# By name: the kinds that it may have, and the values that ask for what is done anyway; None: any.
Rules = Mapping[str, tuple[tuple[str, ...], frozenset[Value] | None]]
REQUEST: Final[Rules] = {
    "timeout": (INTEGERS, None),
    "priority": (INTEGERS, None),
    "triton_enable_empty_final_response": (BOOL, None),
    "sequence_id": ((*INTEGERS, "string_param"), frozenset({0, ""})),
    "sequence_start": (BOOL, frozenset({False})),
    "sequence_end": (BOOL, frozenset({False})),
    "binary_data_output": (BOOL, frozenset({True})),
    "headers": ((), frozenset()),
}
INPUT: Final[Rules] = {"binary_data_size": ((), frozenset())}
OUTPUT: Final[Rules] = {
    "classification": (INTEGERS, frozenset({0})),
    "binary_data": (BOOL, frozenset({True})),
}
# Every other that begins so is refused too: it is Triton's, and would mean something.
RESERVED: Final = "triton_"


def read_timeout_us(request: oip.ModelInferRequest) -> int:
    """Check the parameters of the request and of its tensors; return `timeout` in microseconds, 0 for none.

    Raises InvalidRequestError for one that would not be heeded, is of the wrong kind, negative or without a
    value; and for too many of them, or too long a name.
    """
    for tensor in request.inputs:
        if tensor.parameters:
            _check(f"input {shown(tensor.name)}: ", tensor.parameters, INPUT)
    for output in request.outputs:
        if output.parameters:
            _check(f"output {shown(output.name)}: ", output.parameters, OUTPUT)
    parameters = request.parameters
    if not parameters:
        return 0
    _check("", parameters, REQUEST)
    if "timeout" not in parameters:
        return 0
    timeout_us = _value(parameters["timeout"])
    return timeout_us if isinstance(timeout_us, int) else 0


def _check(where: str, parameters: Parameters, rules: Rules) -> None:
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidRequestError(
            f"{where}expected at most {MAX_PARAMETERS} parameters, came {len(parameters)}"
        )
    for name in sorted(parameters):
        if len(name) > MAX_NAME_CHARACTERS:
            raise InvalidRequestError(
                f"{where}parameter {shown(name)}: expected a name of at most {MAX_NAME_CHARACTERS} "
                f"characters, came {len(name)}"
            )
        parameter = parameters[name]
        rule = rules.get(name)
        if rule is not None:
            _check_known(f"{where}parameter {shown(name)}", parameter, *rule)
        elif name.startswith(RESERVED):
            raise InvalidRequestError(
                f"{where}parameter {shown(name)}: expected none of Triton's own but "
                "triton_enable_empty_final_response, of the request"
            )
        elif parameter.WhichOneof("parameter_choice") is None:
            raise InvalidRequestError(f"{where}parameter {shown(name)}: expected a value, came none")


def _check_known(
    what: str, parameter: oip.InferParameter, kinds: tuple[str, ...], neutral: frozenset[Value] | None
) -> None:
    if not kinds:
        raise InvalidRequestError(f"{what}: expected none, it would not be heeded")
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in kinds:
        raise InvalidRequestError(f"{what}: expected {' or '.join(kinds)}, came {kind or 'none'}")
    value = _value(parameter)
    if isinstance(value, int) and value < 0:
        raise InvalidRequestError(f"{what}: expected 0 or above, came {value}")
    if neutral is not None and value not in neutral:
        nothing = " or ".join(sorted(_told(each) for each in neutral))
        raise InvalidRequestError(
            f"{what}: expected {nothing} or none, any other would not be heeded, came {_told(value)}"
        )


def _value(parameter: oip.InferParameter) -> Value | None:
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


def _told(value: Value | None) -> str:
    return shown(value) if isinstance(value, str) else str(value).lower()
