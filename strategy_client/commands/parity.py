"""`strategy-client parity`."""

import itertools
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from strategy_client.commands.console import out, reporting, tell
from strategy_client.commands.options import (
    Ca,
    Certificate,
    Key,
    Strategies,
    Targets,
    TokenFile,
    TransportName,
    read_file,
)
from strategy_client.configuration import ConfigurationError, Problem, TicksConfig
from strategy_client.factory import StrategyFactory
from strategy_client.lineup import create_executors, wanted_models
from strategy_client.parity.estimator_file import load_estimator
from strategy_client.parity.finding import EQUAL, Finding
from strategy_client.parity.proof import Proof
from strategy_client.predictor.channel import check_target
from strategy_client.predictor.security import Security
from strategy_client.predictor.transport import check_transport
from strategy_client.replay.sidecar import open_sidecar
from strategy_client.shadow import shadow_id
from strategy_client.sources.bad_line import BadLines
from strategy_client.sources.tick_file import merged, open_ticks


def parity(
    ticks: Annotated[list[Path], typer.Argument(help="CSV, JSON lines (.gz, .zip) or Parquet.")],
    strategies: Strategies,
    target: Targets = None,
    models: Annotated[Path, typer.Option(help="The models of a sidecar started for this.")] = Path("models"),
    estimator: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL=FILE", help="A fitted estimator, a joblib file of your own; repeatable."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many ticks.")] = None,
    ca: Ca = None,
    certificate: Certificate = None,
    key: Key = None,
    token_file: TokenFile = None,
    transport: TransportName = "auto",
) -> None:
    """Prove over ticks: batch features = streamed ones, batches = rows alone, estimator = served model.

    Exit codes: 0 all that was compared is equal; 1 something is not; 3 the ticks give a model nothing to
    compare.
    """
    with reporting(), ExitStack() as stack:
        file = read_file(strategies)
        targets = [check_target(each) for each in target or ()]
        executors = create_executors(file.strategies, StrategyFactory())
        wanted = wanted_models(executors, targets)
        tokens = {
            name: each.config.instrument_tokens
            for each in executors
            for name in (each.strategy_id, shadow_id(each.strategy_id))
        }
        proof = Proof(wanted, tokens, _estimators(estimator or ()))
        bad = BadLines()
        columns = file.ticks or TicksConfig()
        known = {token for each in executors for token in each.config.instrument_tokens}
        files = [stack.enter_context(closing(open_ticks(path, columns, known, bad))) for path in ticks]
        sidecar = open_sidecar(
            stack,
            wanted,
            targets=targets,
            security=Security(ca, certificate, key, token_file),
            transport=check_transport(transport),
            models=models,
            allow_contract_change=(),
            has_shadows=False,
        )
        findings = proof.findings(itertools.islice(merged(files), limit), sidecar)
        out.print(_table(findings), soft_wrap=not out.is_terminal)
        for each in findings if out.is_terminal else ():
            # In a column a path would be broken where nobody can copy it.
            if each.result != EQUAL:
                tell(out, f"{each.subject}, {each.what}: {each.result}")
        if not wanted:
            tell(out, "no strategy is learned, so nothing was compared")
        if bad.count:
            tell(out, f"bad lines skipped: {bad.count:,}; the first: {bad.first[0]}")
        if any(each.difference for each in findings):
            raise typer.Exit(1)
        if any(each.unproved for each in findings):
            raise typer.Exit(3)


def _estimators(texts: Sequence[str]) -> dict[str, object]:
    estimators: dict[str, object] = {}
    for text in texts:
        model, _, file = text.partition("=")
        if not (model and file):
            raise ConfigurationError(Problem("--estimator", f"{text!r}: expected MODEL=FILE.joblib"))
        if model in estimators:
            raise ConfigurationError(Problem("--estimator", f"{text!r}: {model!r} has one already"))
        estimators[model] = load_estimator(Path(file))
    return estimators


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("of", "compared"):
        table.add_column(title)
    for title in ("rows", "worst"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("result", overflow="fold")
    for each in findings:
        worst = "-" if each.skipped else f"{each.worst:.2g}"
        result = each.result if each.result == EQUAL or not out.is_terminal else "see below"
        table.add_row(each.subject, each.what, f"{each.rows:,}", worst, result)
    return table
