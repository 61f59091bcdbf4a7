"""What is run by default is there to be run."""

import ast

from tests.kvmhost.host.places import CHECKOUT
from tests.kvmhost.host.selection import TESTS


def test_every_test_of_the_selection_exists() -> None:
    for path, _, name in (test.partition("[")[0].partition("::") for test in TESTS):
        assert (CHECKOUT / path).exists()
        if name:
            tree = ast.parse((CHECKOUT / path).read_text())
            assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
