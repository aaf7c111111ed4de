"""Forward operators: physics only, no noise and no files."""
