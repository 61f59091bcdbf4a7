"""What clients and the daemon say to each other about workspaces: plain frozen dataclasses, like those in `models`.

Times are ISO 8601 in UTC. Paths of the host are absolute by the time they are in here: the daemon has a working
directory of its own. Paths in a workspace are absolute below `/workspace`, or relative to it.
"""

from dataclasses import dataclass, field

WORKSPACE_FOLDER = "/workspace"
NETWORK_POLICIES = ("off", "egress", "egress+published-ports")
# What an answer shows of a command's output before the rest has to be read in pages, in bytes.
SHOWN_OUTPUT_BYTES = 8 * 1024
FILE_BYTES = 8 << 20  # most that `file read` and `file write` move at once
WAIT_SECONDS_RANGE = range(0, 301)


@dataclass(frozen=True)
class CreateWorkspace:
    """A workspace to make. `mem_mib` in MiB; `ttl_seconds` after which it is stopped (not deleted), None: never.

    `seed_path` is a folder or a .tar, .tar.gz, .tgz or .tar.zst. Of a git checkout what git sees goes in (tracked
    files, untracked ones that are not ignored, and `.git`), unless `seed_all`.
    """

    environment: str
    vcpu_count: int = 1
    mem_mib: int = 1024
    ttl_seconds: int | None = None
    network_policy: str = "off"
    seed_path: str | None = None
    seed_all: bool = False
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeedInfo:
    """What went into a workspace at its creation: from where, how many files (not folders), how many bytes in them."""

    path: str
    files: int
    bytes: int


@dataclass(frozen=True)
class WorkspaceInfo:
    """A workspace as it is now.

    `state` is one of creating, running, stopped, deleted. `stopped_because` tells why a stopped one is: user, expired,
    host-restarted, machine-died. `disk_bytes` is what its disks take on the host. `recoverable` lists what `restore`
    can bring back ("reset", "delete").
    """

    workspace_id: str
    environment: str
    environment_digest: str
    state: str
    vcpu_count: int
    mem_mib: int
    network_policy: str
    created_at: str
    vmm: str
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    seed: SeedInfo | None = None
    ttl_seconds: int | None = None
    expires_at: str | None = None
    stopped_because: str | None = None
    deleted_at: str | None = None
    recoverable: tuple[str, ...] = ()
    recoverable_until: str | None = None
    disk_bytes: int = 0
    command_count: int = 0
    running_commands: int = 0


@dataclass(frozen=True)
class UpdateWorkspace:
    """Changes of a workspace's name and labels; `name` sets, `clear_name` removes it."""

    name: str | None = None
    clear_name: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    clear_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResetWorkspace:
    """Back to a snapshot; only `baseline`, the state after creation, exists in this version."""

    snapshot: str = "baseline"


@dataclass(frozen=True)
class RestoreWorkspace:
    """Bring a deleted workspace back, or the disk that the last reset replaced; `name` instead of one now in use."""

    name: str | None = None


@dataclass(frozen=True)
class PruneWorkspaces:
    """Remove for good what was deleted or replaced by a reset; one workspace's if `workspace` names it, else all."""

    workspace: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class PrunedWorkspaces:
    """What was removed for good, or would be: lines such as `workspace w-1a2b` or `disk of w-1a2b before its reset`."""

    removed: tuple[str, ...]
    freed_bytes: int
    dry_run: bool


@dataclass(frozen=True)
class ExecRequest:
    """A command in `/workspace`.

    `timeout_seconds` (1 to 86400) limits the command. `stdin` says that input will be sent.
    """

    command: tuple[str, ...]
    timeout_seconds: int = 30
    stdin: bool = False


@dataclass(frozen=True)
class WaitedExecRequest:
    """A command in `/workspace`, waited for no longer than `wait_seconds` (0 to 300); it goes on after that."""

    command: tuple[str, ...]
    timeout_seconds: int = 30
    wait_seconds: int = 45


@dataclass(frozen=True)
class ExecStarted:
    """A command runs in its workspace under this id."""

    exec_id: str


@dataclass(frozen=True)
class ExecInfo:
    """A command of a workspace's history; of a very long one, `command` is the beginning.

    `status` is one of running, exited, timed_out, cancelled, lost (the machine went away under it), failed (it could
    not be started). `exit_code` is the command's own, 128+N after signal N, 124 after a time-out, None while it runs or
    where nobody knows. `output_bytes` counts stdout and stderr together.
    """

    exec_id: str
    workspace_id: str
    command: tuple[str, ...]
    status: str
    started_at: str
    exit_code: int | None = None
    duration_ms: int | None = None
    output_bytes: int | None = None


@dataclass(frozen=True)
class ExecResult:
    """A command that was waited for: how it stands, and the beginning and the end of its output.

    Both together are at most `SHOWN_OUTPUT_BYTES`; where `tail` is empty, `head` is all of it. stdout and stderr stand
    in the order in which they were written.
    """

    info: ExecInfo
    head: bytes
    tail: bytes = b""


@dataclass(frozen=True)
class OutputQuery:
    """A page of a command's output: `limit` bytes from `offset`.

    `grep` is a regular expression (of Rust's regex-lite); only lines that match it count and are shown.
    """

    offset: int = 0
    limit: int = SHOWN_OUTPUT_BYTES
    grep: str | None = None


@dataclass(frozen=True)
class OutputPage:
    """Part of a command's output; `next_offset` is where to read on, None at the present end."""

    exec_id: str
    offset: int
    data: bytes
    total_bytes: int
    running: bool
    next_offset: int | None = None


@dataclass(frozen=True)
class SyncPush:
    """Copy a folder's content of the host into `dest` (a folder below `/workspace`)."""

    source: str
    dest: str = WORKSPACE_FOLDER
    all: bool = False


@dataclass(frozen=True)
class SyncReport:
    """What was copied; `bytes` counts the files' contents."""

    files: int
    bytes: int
    dest: str


@dataclass(frozen=True)
class ListFiles:
    """What is in a folder; `limit` (1 to 100000) bounds how much is listed."""

    path: str = WORKSPACE_FOLDER
    recursive: bool = False
    limit: int = 10_000


@dataclass(frozen=True)
class FileEntry:
    """One file: `kind` is file, directory, symlink or other; `size` in bytes, `mode` as permission bits."""

    path: str
    kind: str
    size: int
    mode: int
    modified_at: str
    target: str | None = None


@dataclass(frozen=True)
class FileListing:
    """A folder's entries, sorted by path; `truncated` if there are more."""

    path: str
    entries: tuple[FileEntry, ...]
    truncated: bool


@dataclass(frozen=True)
class ReadFile:
    """A file's content from `offset`, at most `max_bytes` (1 to `FILE_BYTES`)."""

    path: str
    max_bytes: int = 1 << 20
    offset: int = 0


@dataclass(frozen=True)
class FileContent:
    """Part of a file; `size` is that of the whole."""

    path: str
    offset: int
    data: bytes
    size: int
    truncated: bool


@dataclass(frozen=True)
class WriteFile:
    """A file's new content (at most `FILE_BYTES`); missing folders are made, the old mode is kept."""

    path: str
    data: bytes


@dataclass(frozen=True)
class WrittenFile:
    """What was written; `created` if the file was not there before."""

    path: str
    size: int
    created: bool


@dataclass(frozen=True)
class ApplyPatch:
    """A unified diff to apply, all or nothing."""

    patch: str


@dataclass(frozen=True)
class PatchedFile:
    """One file of an applied patch: `change` is added, modified, deleted or renamed."""

    path: str
    change: str
    hunks: int
    old_path: str | None = None
    offset_lines: int = 0  # the farthest that a hunk stood from where it said


@dataclass(frozen=True)
class PatchReport:
    """What a patch changed."""

    files: tuple[PatchedFile, ...]


@dataclass(frozen=True)
class DiffRequest:
    """Compare with the baseline. `max_bytes` bounds the text (files beyond it are listed without it)."""

    max_bytes: int = 4 << 20


@dataclass(frozen=True)
class DiffEntry:
    """One difference: `change` is added, modified, deleted, renamed, mode or type (file to symlink, say)."""

    path: str
    change: str
    kind: str = "file"
    old_path: str | None = None
    old_mode: int | None = None
    new_mode: int | None = None
    insertions: int = 0
    deletions: int = 0
    binary: bool = False


@dataclass(frozen=True)
class DiffReport:
    """All differences from the baseline, and as text that `git apply` takes.

    `truncated` if `text` leaves out what did not fit. Folders and what is below a `.git` are not compared.
    """

    entries: tuple[DiffEntry, ...]
    text: bytes
    truncated: bool
    insertions: int
    deletions: int


@dataclass(frozen=True)
class ExportPath:
    """Copy a file or folder of a workspace to `output`, which must not exist, or be an empty folder.

    What is called `.git` stays behind unless `include_git`: git runs programs that a repository's hooks and settings
    name, and those in it may be the guest's.
    """

    path: str
    output: str
    include_git: bool = False


@dataclass(frozen=True)
class ExportReport:
    """What was copied to `output`; `bytes` counts the files' contents.

    `skipped` names what was not copied: links that lead out of the exported folder, and `.git` unless it was asked for.
    """

    output: str
    files: int
    bytes: int
    skipped: tuple[str, ...] = ()
