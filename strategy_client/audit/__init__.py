"""The audit log: every outcome of every strategy and tick, written so that it can be verified later.

`log.AuditLog` writes it, `reader` reads it back and says whether it is whole, `verification` runs it again.
"""

from strategy_client.audit.log import AuditLog
from strategy_client.audit.options import AuditOptions

__all__ = ["AuditLog", "AuditOptions"]
