"""A session on one page: what was traded, why not, how fast, and by which model bytes.

`strategy_client.report.document.write_report` writes it. Needs plotly, of the extra `tickserve[client]`.
"""
