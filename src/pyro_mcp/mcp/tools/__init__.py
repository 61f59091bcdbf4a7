"""The tools, one file for what belongs together. Each is a function of a call and its parameters."""
