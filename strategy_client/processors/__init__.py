"""Strategy logic: a tick and its history in, a wish to trade out."""
