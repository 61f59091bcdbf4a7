"""An argument parser whose help keeps its layout and whose errors look like all of pyro's errors."""

import argparse
import sys
from typing import Any, NoReturn

from pyro_mcp.errors import InvalidRequest


class _Layout(argparse.RawDescriptionHelpFormatter):
    """Readable epilogs, and sub-commands in one column with what they do."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            # argparse leaves out how far sub-commands are indented when it measures their names.
            self._action_max_length += self._indent_increment


class HelpfulParser(argparse.ArgumentParser):
    """`argparse` with readable epilogs, no abbreviated flags, and errors raised as `InvalidRequest`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=_Layout, allow_abbrev=False)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a help text or the version; argparse's own way says nothing where that fails."""
        (sys.stdout if file is None else file).write(message)

    def error(self, message: str) -> NoReturn:
        raise InvalidRequest("bad_usage", message, f"see `{self.prog} -h`")


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """The flag that every command with a result takes."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
