"""What a run leaves behind, a live one or a replay: its files, its numbers, and their table for a person."""
