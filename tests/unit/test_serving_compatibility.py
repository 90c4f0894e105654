"""What may not differ between a file and the one whose place it takes."""

from onnx_files import score_contract
from servables import FunctionServable

from inference_server.serving.compatibility import contract_changes


def test_contracts_that_clients_cannot_tell_apart_have_no_changes():
    """Golden vectors, ranges and provenance may differ; a contract that goes or comes is named."""

    def changes(contract, other):
        old, new = FunctionServable(contract=contract), FunctionServable(contract=other)
        return contract_changes(old, new)

    contract = score_contract()
    assert changes(contract, score_contract(estimator="other", trained_at_ns=1, version=9)) == ()
    assert changes(contract, None) == ("a contract before, no contract now",)
    assert changes(contract, score_contract(feature_names=("a", "b", "d"))) == (
        "features.names: a, b, c before, a, b, d now",
    )


def test_without_a_contract_the_signature_is_what_may_not_change():
    """C4: plain ONNX in the place of plain ONNX is compared by names, datatypes and shapes."""
    old = FunctionServable(contract=None)
    assert contract_changes(old, FunctionServable(contract=None, version=2)) == ()
    assert contract_changes(old, FunctionServable(contract=None, n_features=4)) == (
        "inputs: features: FP32[?, 3] before, features: FP32[?, 4] now",
    )
    assert contract_changes(old, FunctionServable(contract=None, outputs=("other",))) == (
        "outputs: score: FP32[?, 1] before, other: FP32[?, 1] now",
    )
