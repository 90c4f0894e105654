"""Answers as parts: what is copied from the answer before is never taken for another's."""

from dataclasses import replace

import numpy as np
from servables import FunctionServable
from tickserve.v1 import predictor_pb2 as wire

from inference_server.core.servable import VettingResult
from inference_server.rpc.part_results import PartResults, WrittenResponse
from inference_server.serving.data_plane import Answer

VETTED = VettingResult(vetted_at_ns=5, verified=True, text="", memory_bytes=1)


def answer(servable: FunctionServable, values: np.ndarray, vetting: VettingResult | None = VETTED) -> Answer:
    """Return an answer of one output."""
    return Answer(servable, vetting, servable.outputs, [values], len(values), 0, 0)


def written(results: PartResults, *answers: Answer) -> list[wire.PartResult]:
    """Return the parts of a response with these answers."""
    response = WrittenResponse("")
    for each in answers:
        response.add(results.write(each))
    return list(response.message().parts)


def test_each_part_has_the_values_and_the_shape_of_its_own_answer() -> None:
    """One servable's answers of other sizes and values, in one response and in the next."""
    results, servable = PartResults(), FunctionServable()
    values = [np.arange(rows, dtype=np.float32) + rows for rows in (1, 3, 1, 2)]
    parts = written(results, *(answer(servable, each) for each in values[:3]))
    parts += written(results, answer(servable, values[3]))
    for part, expected in zip(parts, values, strict=True):
        (tensor,) = part.outputs
        assert list(tensor.shape) == list(expected.shape)
        assert tensor.raw == expected.tobytes()
        assert (part.model, part.digest) == (servable.id.name, servable.digest)


def test_two_servables_of_one_name_are_told_apart() -> None:
    """After a swap the digest is the new file's (C7)."""
    results = PartResults()
    old, new = FunctionServable(digest="a" * 64), FunctionServable(digest="b" * 64)
    row = np.zeros(1, np.float32)
    parts = written(results, answer(old, row), answer(new, row), answer(old, row))
    assert [part.digest[0] for part in parts] == ["a", "b", "a"]


def test_another_vetting_of_the_same_servable_is_told() -> None:
    """What vetting said is the answer's, and nothing that was said before."""
    results, servable = PartResults(), FunctionServable()
    row = np.zeros(1, np.float32)
    vettings = [VETTED, replace(VETTED, vetted_at_ns=6, verified=False), None]
    parts = [written(results, answer(servable, row, vetting))[0] for vetting in vettings]
    assert [(part.vetted_at_ns, part.verified) for part in parts] == [(5, True), (6, False), (0, False)]


def test_outputs_that_were_asked_for_are_those_written() -> None:
    """A subset asked for after all, and all after a subset."""
    results, servable = PartResults(), FunctionServable(outputs=("score", "twin"))
    row = np.zeros(1, np.float32)
    both = Answer(servable, None, servable.outputs, [row, row + 1], 1, 0, 0)
    twin = Answer(servable, None, servable.outputs[1:], [row + 1], 1, 0, 0)
    score = Answer(servable, None, servable.outputs[:1], [row], 1, 0, 0)
    asked = (both, twin, score, both)
    names = [[tensor.name for tensor in written(results, each)[0].outputs] for each in asked]
    assert names == [["score", "twin"], ["twin"], ["score"], ["score", "twin"]]


def test_a_servable_that_is_gone_is_forgotten() -> None:
    """Swaps do not grow what is kept."""
    results = PartResults()
    for _ in range(3):
        written(results, answer(FunctionServable(), np.zeros(1, np.float32)))
    assert repr(results) == "<PartResults from <AnswerTemplates of 0 servables>>"


def test_a_response_says_how_many_parts_it_has() -> None:
    """Whoever stops writing in the middle can tell which parts are missing."""
    response, servable = WrittenResponse("7"), FunctionServable()
    response.add(PartResults().write(answer(servable, np.zeros(1, np.float32))))
    assert (len(response), repr(response)) == (1, "<WrittenResponse of 1 parts>")
