"""An argument parser whose help keeps its layout and whose errors look like all of pyro's errors."""

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from pyro_mcp.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_DIGITS = 20  # more than any number has that is allowed anywhere


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
        self._given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in `argparse`; `parser` in what is parsed is the one of the innermost sub-command."""
        self._given = args or ()
        parsed, unknown = super().parse_known_args(self._flags_first(self._given), namespace)
        if "parser" not in parsed:
            parsed.parser = self
        return parsed, unknown

    def _flags_first(self, words: "Sequence[str]") -> "Sequence[str]":
        """The same, with the flags before what names things, where one of these may be left out.

        `argparse` looks for all of them as soon as it meets one, and finds that such a one is left out when it stands
        behind a flag (mended in Python 3.12.7).
        """
        if not any(action.nargs == argparse.OPTIONAL for action in self._get_positional_actions()):
            return words
        own = _before_dashes(words)
        flags, others, rest = list[str](), list[str](), iter(own)
        for word in rest:
            flag, equals, _ = word.partition("=")
            action = self._option_string_actions.get(flag)
            (others if action is None else flags).append(word)
            if action is not None and action.nargs is None and not equals:
                value = next(rest, None)
                if value is None:
                    return words  # which `argparse` refuses
                flags.append(value)
        return [*flags, *others, *words[len(own) :]]

    def refuse(self, unknown: "Sequence[str]") -> NoReturn:
        """Raise `InvalidRequest` for words that nothing here takes, with the flag that was meant if one is near."""
        typed = next((word.partition("=")[0] for word in unknown if word.startswith("-") and word != "-"), None)
        if typed is None:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        if typed in self._option_string_actions:
            raise InvalidRequest("bad_usage", f"{typed} stands too early", f"put it behind `{self.prog}`")
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        self._misspelt(f"there is no flag {typed}", typed, flags)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As in `argparse`, which checks every choice here; commands are too many to list in an error."""
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            self._misspelt(f"there is no command {value!r}", value, list(action.choices))
        super()._check_value(action, value)

    def _misspelt(self, message: str, typed: str, names: "Sequence[str]") -> NoReturn:
        import difflib  # late, as most command lines are in order

        begun = [name for name in names if typed and name.startswith(typed)]
        near = begun or difflib.get_close_matches(typed, names, n=1)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise InvalidRequest("bad_usage", message, f"{meant}see `{self.prog} -h`")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a help text or the version; argparse's own way says nothing where that fails."""
        (sys.stdout if file is None else file).write(message)

    def error(self, message: str) -> NoReturn:
        """Raise `InvalidRequest`. A flag that is missing because it was misspelt is told as misspelt."""
        if message.endswith("is required") or "are required:" in message:
            unknown = [word for word in _before_dashes(self._given) if self._is_unknown_flag(word)]
            if unknown:
                self.refuse(unknown)
        raise InvalidRequest("bad_usage", message, f"see `{self.prog} -h`")

    def _is_unknown_flag(self, word: str) -> bool:
        """Whether argparse takes the word for a flag (not for a negative number, or for text), and does not know it."""
        looks_like_one = word[:1] == "-" and word.lstrip("-")[:1].isalpha() and " " not in word
        return looks_like_one and word.partition("=")[0] not in self._option_string_actions


def _before_dashes(words: "Sequence[str]") -> "Sequence[str]":
    return words[: words.index("--")] if "--" in words else words


class LateParser(HelpfulParser):
    """The parser of a sub-command whose module (`configure`, `execute`, `EPILOG`) is imported when it is wanted.

    What is parsed has the module's name as `module`.
    """

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(**options)
        self._module = module
        self._loaded = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in `argparse`, which calls this for a sub-command that was typed."""
        self.load()
        return super().parse_known_args(args, namespace)

    def load(self) -> None:
        """Have the flags of the module."""
        if not self._loaded:
            self._loaded = True
            module = import_module(self._module)
            self.epilog = module.EPILOG
            self.set_defaults(module=self._module)
            module.configure(self)


def add_commands(parser: argparse.ArgumentParser, package: str, summaries: dict[str, str], dest: str) -> None:
    """Sub-commands, each in a module of the package with its name; `summaries` says what they do."""
    actions = parser.add_subparsers(dest=dest, metavar="ACTION", required=True, parser_class=LateParser)
    for name, summary in summaries.items():
        description = f"{summary[0].upper()}{summary[1:]}."
        actions.add_parser(name, help=summary, description=description, module=f"{package}.{name}")


def load_all(parser: argparse.ArgumentParser) -> None:
    """Have the flags of all sub-commands below a parser."""
    if isinstance(parser, LateParser):
        parser.load()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                load_all(child)


def add_workspace(parser: argparse.ArgumentParser) -> None:
    """The positional argument that names a workspace."""
    parser.add_argument("workspace", metavar="W", help="a workspace's id, a unique prefix of it, or its name")


def whole_number(text: str) -> int:
    """A number as it is typed: `int` would take `1_024` and the digits of other scripts, too."""
    if not (text.isascii() and text.removeprefix("-").isdecimal() and len(text) <= _MOST_DIGITS):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number")
    return int(text)


def add_size_flags(parser: argparse.ArgumentParser) -> None:
    """How large a new machine is to be."""
    parser.add_argument(
        "--vcpu-count", type=whole_number, default=1, metavar="N", help="virtual processors (default 1)"
    )
    parser.add_argument(
        "--mem-mib", type=whole_number, default=1024, metavar="MIB", help="memory in MiB (default 1024)"
    )


def add_timeout_flag(parser: argparse.ArgumentParser) -> None:
    """How long a command may take."""
    parser.add_argument(
        "--timeout-seconds",
        type=whole_number,
        default=30,
        metavar="S",
        help="limit for the command in seconds (default 30)",
    )


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """The flag that every command with a result takes."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
