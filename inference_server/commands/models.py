"""`models`: what the models of a sidecar take and mean, and whether they answer as they promised."""

from typing import Annotated

import typer

from inference_server.commands.served import served
from inference_server.commands.target import Target, complete_model, name_and_version, on_sidecar
from inference_server.console import ending, out
from inference_server.core.contract import Contract
from inference_server.core.errors import ContractError
from inference_server.model_card import card_view, check_view, models_view
from inference_server.rpc.caller import Caller, output_array


@on_sidecar()
def models(
    target: Target,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL[:VERSION|:LABEL]", autocompletion=complete_model, help="Default: all."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask it the golden rows now; exit 1 where an answer does not fit.")
    ] = False,
) -> None:
    """Explain what models take and mean, and where they come from.

    Golden rows lie in the model file, with what the estimator answered to them when it was fitted.
    """
    if model is None:
        if check:
            raise typer.BadParameter("--check needs a model")
        with target.open() as caller:
            out.print(models_view(caller.describe_models().models))
        return
    name, which = name_and_version(model)
    with target.open() as caller:
        described, version = served(caller, name, which)
        document = caller.model_properties(name, version.version).get("contract")
        try:
            contract = Contract.from_json(document) if document else None
        except ContractError as error:  # of a sidecar that is newer than this command
            raise ending(f"{name}:{version.version}: its contract cannot be read: {error}", code=1) from None
        out.print(card_view(described, version, contract))
        if check:
            _check(caller, name, version.version, contract)


def _check(caller: Caller, name: str, version: int, contract: Contract | None) -> None:
    if contract is None:
        raise ending(f"{name}:{version} has no contract, so that there are no golden rows to ask", code=1)
    result = caller.predict(name, version, contract.golden.inputs, contract.hash)
    answers = {tensor.name: output_array(tensor) for tensor in result.outputs}
    try:
        mismatches = contract.golden.mismatches(answers)
    except ContractError as error:
        raise ending(f"{name}:{version}: {error}", code=1) from None
    out.print(check_view(contract, mismatches))
    if mismatches:
        raise typer.Exit(1)
