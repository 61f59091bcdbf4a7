"""What both ends of a conversation about workspaces have to know."""

WORKSPACE_FOLDER = "/workspace"
NETWORK_POLICIES = ("off", "egress", "egress+published-ports")
# What an answer shows of a command's output before the rest has to be read in pages, in bytes.
SHOWN_OUTPUT_BYTES = 8 * 1024
FILE_BYTES = 8 << 20  # most that `file read` and `file write` move at once
WAIT_SECONDS_RANGE = range(0, 301)
