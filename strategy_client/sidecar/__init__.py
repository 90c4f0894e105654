"""A sidecar of one's own, for a run that has none: started on a private socket, stopped at the end."""
