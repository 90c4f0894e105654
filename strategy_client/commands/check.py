"""`strategy-client check`."""

from typing import Final

import typer

from strategy_client.bindings import Bindings, Unbound
from strategy_client.commands.console import out, reporting
from strategy_client.commands.options import Ca, Certificate, Key, Strategies, Target, TokenFile, read_file
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.security import Security
from strategy_client.replay.table import Finding, check_table

CHECK_TIMEOUT_S: Final = 5.0


def check(
    strategies: Strategies,
    target: Target = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Say of each strategy whether it could run: configuration and, with --target, the model's contract."""
    with reporting():
        executors = create_executors(read_file(strategies).strategies, StrategyFactory())
        wanted = wanted_models(executors, [] if target is None else [target])
        models = {each.strategy_id: each.model.name for each in wanted}
        problems = dict.fromkeys(models, "the model was not looked at; name a sidecar with --target")
        if target is not None:
            security = Security(ca, certificate, key, token_file)
            with InferenceClient(check_target(target), security=security) as client:
                client.describe(timeout_s=CHECK_TIMEOUT_S)
                bindings = Bindings(wanted, client.describe)
                bindings.refresh()
            problems = {
                strategy_id: f"{binding.reason.value}: {binding.detail}"
                for strategy_id, binding in bindings.all.items()
                if isinstance(binding, Unbound)
            }
        out.print(
            check_table(
                [
                    Finding(
                        each.strategy_id,
                        each.config.strategy_type,
                        models.get(each.strategy_id, ""),
                        problems.get(each.strategy_id, ""),
                    )
                    for each in executors
                ]
            ),
            soft_wrap=not out.is_terminal,
        )
        if target is not None and problems:
            raise typer.Exit(1)
