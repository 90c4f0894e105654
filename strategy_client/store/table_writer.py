"""A new table, and strategies out of files written into it."""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from strategy_client.configuration import ConfigurationError, EmissionConfig, Problem, StrategyConfig
from strategy_client.store.database_url import open_database
from strategy_client.store.table import TABLE, definition


def create_table(place: str, strategies: Sequence[StrategyConfig] = ()) -> None:
    """Make the table where there is none yet, and add a row for each strategy: all of it, or nothing.

    Raises ConfigurationError where the database cannot be written, the table stands and nothing is to be
    added, or a strategy cannot be a row.
    """
    rows = [_row(each) for each in strategies]
    problems = [problem for each in strategies for problem in _problems(each)]
    database = open_database(place, create=True)
    where = f"{database.name}: {TABLE}"
    try:
        with database.engine.begin() as connection:
            stands = sa.inspect(connection).has_table(TABLE)
            if stands and not rows:
                problems.append(Problem(where, "stands already; expected --from PLACE to add to it"))
            elif stands:
                ids = [each.strategy_id for each in strategies]
                found = sa.select(definition.c.id).where(definition.c.id.in_(ids)).order_by(definition.c.id)
                text = "stands already; expected strategies that are not in the table yet"
                problems += [Problem(f"{where} row {name!r}", text) for name in connection.scalars(found)]
            if problems:
                raise ConfigurationError(*problems)
            if not stands:
                definition.create(connection)
            if rows:
                connection.execute(sa.insert(definition), rows)
    except sa.exc.SQLAlchemyError as error:
        text = f"cannot be written: {database.told(error)}"
        raise ConfigurationError(Problem(database.name, text)) from error
    finally:
        database.engine.dispose()


def _row(config: StrategyConfig) -> dict[str, Any]:
    parameters = dict(config.parameters)
    if config.emission != EmissionConfig():
        rules = {"edge_trigger": config.emission.edge_trigger, "cooldown_s": config.emission.cooldown_s}
        parameters["emission"] = rules
    limits: dict[str, Any] = {}
    if config.max_position_size is not None:
        limits["max_position_size"] = config.max_position_size
    if config.risk_multiplier != 1:
        limits["risk_multiplier"] = str(config.risk_multiplier)
    if limits:
        parameters["risk_limits"] = limits
    return {
        "id": config.strategy_id,
        "strategy_type": config.strategy_type,
        "instruments": list(config.instrument_tokens),
        "parameters": parameters,
        "is_active": config.enabled,
        "zerodha_trading_enabled": "zerodha" in config.active_brokers,
    }


def _problems(config: StrategyConfig) -> list[Problem]:
    problems = []
    if not {"paper"} <= set(config.active_brokers) <= {"paper", "zerodha"}:
        text = f"expected [paper] or [paper, zerodha], a table knows no other, came {config.active_brokers}"
        problems.append(Problem(f"{config.strategy_id}: brokers", text))
    try:
        json.dumps(config.parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        problems.append(Problem(f"{config.strategy_id}: parameters", f"expected what JSON can hold: {error}"))
    return problems
