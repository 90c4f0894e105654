"""Answers as Open Inference responses: what is copied from the answer before is never taken for another's."""

from dataclasses import replace

import numpy as np
from servables import FunctionServable

from inference_server.core.servable import VettingResult
from inference_server.rpc.infer_responses import InferResponses
from inference_server.serving.data_plane import Answer

VETTED = VettingResult(vetted_at_ns=5, verified=True, text="", memory_bytes=1)
ROW = np.zeros((1, 1), np.float32)


def answer(servable: FunctionServable, rows: int = 1, vetting: VettingResult | None = VETTED) -> Answer:
    """Return an answer of all outputs."""
    values = np.zeros((rows, 1), np.float32)
    return Answer(servable, vetting, servable.outputs, [values] * len(servable.outputs), rows, 0, 0)


def test_each_response_has_its_own_id_and_sizes() -> None:
    """One servable's answers of other sizes, one after another; none holds another's contents."""
    responses, servable = InferResponses(), FunctionServable()
    came = []
    for id_, rows in (("a", 1), ("b", 3), ("", 1)):
        response = responses.begin(id_, answer(servable, rows))
        came.append((response.id, list(response.outputs[0].shape), len(response.raw_output_contents)))
        response.raw_output_contents.append(b"of this one")
    assert came == [("a", [1, 1], 0), ("b", [3, 1], 0), ("", [1, 1], 0)]


def test_two_servables_of_one_name_are_told_apart() -> None:
    """After a swap the digest and the version are the new file's (C7)."""
    responses = InferResponses()
    old, new = FunctionServable(version=1), FunctionServable(version=2)
    told = [responses.begin("", answer(each)) for each in (old, new, old)]
    assert [each.model_version for each in told] == ["1", "2", "1"]
    assert [each.parameters["digest"].string_param for each in told] == [old.digest, new.digest, old.digest]


def test_another_vetting_of_the_same_servable_is_told() -> None:
    """What vetting said is the answer's, and nothing that was said before."""
    responses, servable = InferResponses(), FunctionServable()
    vettings = [VETTED, replace(VETTED, vetted_at_ns=6, verified=False), None]
    told = [responses.begin("", answer(servable, vetting=vetting)).parameters for vetting in vettings]
    assert [each["verified"].bool_param for each in told] == [True, False, False]
    assert [each["vetted_at_ns"].int64_param if "vetted_at_ns" in each else None for each in told] == [
        5,
        6,
        None,
    ]


def test_outputs_that_were_asked_for_are_those_named() -> None:
    """A subset asked for after all, another after that, and all again."""
    responses, servable = InferResponses(), FunctionServable(outputs=("score", "twin"))
    names = []
    for specs in (servable.outputs, servable.outputs[1:], servable.outputs[:1], tuple(servable.outputs)):
        response = responses.begin("", Answer(servable, None, specs, [ROW] * len(specs), 1, 0, 0))
        names.append([output.name for output in response.outputs])
    assert names == [["score", "twin"], ["twin"], ["score"], ["score", "twin"]]
