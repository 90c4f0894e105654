"""MLServer as it is, with one method more on its gRPC server.

python mlserver_start.py FOLDER MODEL
"""

import sys
from typing import Any

from mlserver.cli.main import main
from mlserver.grpc.server import GRPCServer
from model_config import model_config_handler

if __name__ == "__main__":  # its worker processes import this module again
    _, folder, model = sys.argv
    create = GRPCServer._create_server  # noqa: SLF001 - the one place where methods can be added

    def create_with_config(self: GRPCServer) -> Any:
        """Create the server as MLServer does, and add to it."""
        server = create(self)
        server.add_generic_rpc_handlers((model_config_handler(model),))
        return server

    GRPCServer._create_server = create_with_config  # noqa: SLF001
    sys.argv[1:] = ["start", folder]
    main()  # not `root()`: it is `main` that installs uvloop
