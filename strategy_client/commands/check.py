"""`strategy-client check`."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from strategy_client.binding import Binding, Unbound, Wanted, bind
from strategy_client.commands.console import out, reporting
from strategy_client.commands.findings import Finding, ModelFinding, Report, find_model
from strategy_client.commands.options import (
    Ca,
    Certificate,
    Key,
    Strategies,
    TokenFile,
    TransportName,
    read_place,
)
from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig
from strategy_client.events import Reason
from strategy_client.executor import StrategyExecutor
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.security import Security
from strategy_client.predictor.status import InferenceError
from strategy_client.predictor.transport import Transport, check_transport
from strategy_client.processors.limits import limits_of, shadow_of
from strategy_client.processors.processor import LearnedProcessor
from strategy_client.runner import StrategyRunner
from strategy_client.shadow import shadow_id
from strategy_client.sinks.fan_out import PAPER
from strategy_client.sinks.opening import brokers_with_a_sink
from strategy_client.sinks.unrouted import brokers_of_all, unrouted

CHECK_TIMEOUT_S: Final = 5.0


def check(
    strategies: Strategies,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDR", help="A sidecar: unix:/PATH or HOST:PORT; repeatable, each is asked."),
    ] = None,
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[BROKER=]URL",
            help="The sinks of the run: has each broker one? Repeatable; none is opened.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For a script: one JSON document.")] = False,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
    transport: TransportName = "auto",
) -> None:
    """Say of each strategy whether it could run: configuration and, with --target, the model's contract.

    With --sink, warn of brokers whose signals would go nowhere. Exit 0: all that is enabled could run. 1: a
    sidecar or a model is not as asked. 2: the configuration is wrong, a line for each thing.
    """
    with reporting():
        given = read_place(strategies)
        if not given.strategies:
            raise ConfigurationError(Problem("--strategies", "expected at least one strategy, there is none"))
        executors = create_executors(given.strategies, StrategyFactory())
        targets = [check_target(each) for each in target or ()]
        wanted = wanted_models(executors, targets or _endpoints(executors))
        # As a run makes it: what it refuses is refused here.
        StrategyRunner(executors)
        described: Mapping[str, Mapping[str, Binding]] = {}
        if targets:
            described = _describe(
                targets, wanted, Security(ca, certificate, key, token_file), check_transport(transport)
            )
        report = Report(
            [_finding(each, wanted, described) for each in executors],
            given.problems,
            (*given.notes, *_not_looked_at(given.strategies, sink or ())),
            _without_sink(given.strategies, sink or ()),
        )
        if as_json:
            typer.echo(json.dumps(report.to_json(), indent=2))
        else:
            out.print(report.to_table(), soft_wrap=not out.is_terminal)
        if not report.is_ready:
            raise typer.Exit(1)


def _without_sink(strategies: Sequence[StrategyConfig], sinks: Sequence[str]) -> Sequence[Problem]:
    return unrouted(strategies, brokers_with_a_sink(sinks, brokers_of_all(strategies))) if sinks else ()


def _not_looked_at(strategies: Sequence[StrategyConfig], sinks: Sequence[str]) -> Sequence[Problem]:
    named = ", ".join(broker for broker in brokers_of_all(strategies) if broker != PAPER)
    if sinks or not named:
        return ()
    return (Problem("--sink", f"not looked at; name the sinks of the run to see whether {named} has one"),)


def _endpoints(executors: Sequence[StrategyExecutor]) -> list[str]:
    processors = [each.processor for each in executors if isinstance(each.processor, LearnedProcessor)]
    return [each.model.endpoint for each in processors if each.model.endpoint is not None]


def _describe(
    targets: Sequence[str], wanted: Sequence[Wanted], security: Security, transport: Transport
) -> Mapping[str, Mapping[str, Binding]]:
    """Return the binding of each strategy and shadow, by target. Raises InferenceError if none answers."""
    described: dict[str, Mapping[str, Binding]] = {}
    errors: list[InferenceError] = []
    with Endpoints(targets, security=security, transport=transport) as endpoints:
        for client in endpoints.clients:
            try:
                described[client.target] = _bind_all(client, wanted)
            except InferenceError as error:
                errors.append(error)
                unreached = Unbound(Reason.UNAVAILABLE, str(error))
                described[client.target] = {each.strategy_id: unreached for each in wanted}
    if len(errors) == len(targets):
        raise errors[0]
    return described


def _bind_all(client: InferenceClient, wanted: Sequence[Wanted]) -> Mapping[str, Binding]:
    models = sorted({each.model.name for each in wanted})
    description = client.describe(models, timeout_s=CHECK_TIMEOUT_S)
    return {each.strategy_id: bind(each, description) for each in wanted}


def _finding(
    executor: StrategyExecutor, wanted: Sequence[Wanted], described: Mapping[str, Mapping[str, Binding]]
) -> Finding:
    processor = executor.processor
    if not isinstance(processor, LearnedProcessor):
        return Finding(executor.config)
    asking = {executor.strategy_id: processor}
    shadow = shadow_of(processor)
    if shadow is not None:
        asking[shadow_id(executor.strategy_id)] = shadow
    by_name = {each.strategy_id: each for each in wanted}
    now = datetime.now(UTC)
    models = [
        find_model(by_name[name], bindings[name], asks, limits_of(asks), target, now)
        for target, bindings in described.items()
        for name, asks in asking.items()
    ]
    if not described:
        models = [
            ModelFinding(name, asks.model.name, len(asks.features.names)) for name, asks in asking.items()
        ]
    return Finding(executor.config, models, looked=bool(described))
