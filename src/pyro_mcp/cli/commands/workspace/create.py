"""`pyro workspace create`."""

import argparse

from pyro_mcp.cli.parsing import add_json_flag, add_size_flags, whole_number

EPILOG = """\
Of a git checkout what git sees goes in: tracked files, untracked ones that are not ignored, and .git itself.

Next:
  pyro workspace create debian:12 --seed-path . --name demo
  pyro workspace create debian:12-build --seed-path project.tar.gz --mem-mib 4096 --vcpu-count 2
  W=$(pyro workspace create debian:12 --id-only)
  pyro workspace exec demo -- ls -la
"""
POLICIES = ("off", "egress", "egress+published-ports")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("environment", metavar="ENV", help="a name from `pyro env list`, such as debian:12")
    add_size_flags(parser)
    parser.add_argument(
        "--ttl-seconds",
        type=whole_number,
        metavar="S",
        help="stop it after this time; it can be started again (default never)",
    )
    parser.add_argument(
        "--network-policy", choices=POLICIES, default="off", help="what it may reach (default off, so far only that)"
    )
    parser.add_argument(
        "--seed-path", metavar="DIR|TAR", help="what /workspace starts with: a folder, .tar, .tar.gz, .tgz or .tar.zst"
    )
    parser.add_argument("--seed-all", action="store_true", help="of a git checkout everything, ignored files too")
    parser.add_argument("--name", metavar="NAME", help="a name to use instead of the id")
    parser.add_argument("--label", action="append", default=[], metavar="K=V", help="a label; may be given repeatedly")
    parser.add_argument("--id-only", action="store_true", help="print the id and nothing else")
    add_json_flag(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Make the workspace and say what was made."""
    from pyro_mcp.cli.commands.workspace.labels import parse_labels
    from pyro_mcp.cli.commands.workspace.shown import print_workspace
    from pyro_mcp.cli.output import summary
    from pyro_mcp.cli.progress import shown_progress
    from pyro_mcp.sdk import Pyro

    labels = parse_labels(arguments.label)
    with shown_progress() as on_progress:
        made = Pyro().create_workspace(
            arguments.environment,
            vcpu_count=arguments.vcpu_count,
            mem_mib=arguments.mem_mib,
            ttl_seconds=arguments.ttl_seconds,
            network_policy=arguments.network_policy,
            seed_path=arguments.seed_path,
            seed_all=arguments.seed_all,
            name=arguments.name,
            labels=labels,
            on_progress=on_progress,
        )
    if arguments.id_only:
        print(made.workspace_id)
        return 0
    print_workspace(made, as_json=arguments.json)
    if not arguments.json:
        seed = {"seed_files": made.seed.files, "seed_bytes": made.seed.bytes} if made.seed else {}
        summary("workspace", workspace_id=made.workspace_id, environment=made.environment, vmm=made.vmm, **seed)
    return 0
