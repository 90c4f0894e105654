"""Answers as a `ModelInferResponse` each."""

from collections.abc import Sequence

from open_inference.v2 import inference_pb2 as oip

from inference_server.rpc.answer_templates import AnswerTemplates
from inference_server.serving.data_plane import Answer, RowAnswer


class InferResponses:
    """Writes answers."""

    def __init__(self) -> None:
        self._templates = AnswerTemplates(_write)

    def __repr__(self) -> str:
        return f"<InferResponses from {self._templates!r}>"

    def begin(self, id_: str, answer: Answer | RowAnswer) -> oip.ModelInferResponse:
        """Return the answer's response, its outputs named and their contents not yet there."""
        response = oip.ModelInferResponse()
        response.CopyFrom(self._templates.of(answer))
        response.id = id_
        return response


def _write(answer: Answer | RowAnswer, _: Sequence[bytes]) -> oip.ModelInferResponse:
    servable, vetting = answer.servable, answer.vetting
    response = oip.ModelInferResponse(model_name=servable.id.name, model_version=str(servable.id.version))
    # Which bytes answered, and what vetting made of them.
    parameters = response.parameters
    parameters["digest"].string_param = servable.digest
    if servable.contract is not None:
        parameters["contract_hash"].string_param = servable.contract.hash
    parameters["verified"].bool_param = vetting is not None and vetting.verified
    if vetting is not None:
        parameters["vetted_at_ns"].int64_param = vetting.vetted_at_ns
    for spec, shape in zip(answer.specs, answer.shapes, strict=True):
        response.outputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
    return response
