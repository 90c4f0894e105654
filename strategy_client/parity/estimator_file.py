"""A fitted estimator from a joblib file. Needs the extra `tickserve[export]`."""

from pathlib import Path
from typing import Any

from strategy_client.configuration import ConfigurationError, Problem, describe_error


def load_estimator(path: Path) -> Any:
    """Load a file that joblib wrote; loading runs code that stands in it, so it must be one's own.

    Raises ConfigurationError where there is none, where it holds no fitted estimator, and without the extra.
    """
    if not path.is_file():
        raise ConfigurationError(Problem("--estimator", f"{path}: expected a joblib file, there is none"))
    try:
        import joblib  # noqa: PLC0415 - an optional extra
    except ModuleNotFoundError:
        text = "a joblib file needs joblib and scikit-learn: pip install 'tickserve[export]'"
        raise ConfigurationError(Problem("--estimator", text)) from None
    try:
        estimator = joblib.load(path)
    except (Exception, SystemExit) as error:  # whatever a pickle raises, and a library that is missing
        text = f"{path}: cannot be loaded: {describe_error(error)}"
        raise ConfigurationError(Problem("--estimator", text)) from error
    if not callable(getattr(estimator, "predict", None)):
        text = f"{path}: expected a fitted estimator, came {type(estimator).__name__}"
        raise ConfigurationError(Problem("--estimator", text))
    return estimator
