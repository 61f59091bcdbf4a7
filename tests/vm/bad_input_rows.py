"""What must be refused, as a table: asked how, and answered with which code and words."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.vm.front_ends import FOLDER, Ask

W = "bad-input"
NO_W = "bad-imput"
NEW = "--- /dev/null\n+++ b/made\n@@ -0,0 +1 @@\n+made\n"
BAD_HUNK = "--- a/text\n+++ b/text\n@@ -1,2 +1,2 @@\n-eins\n+ONE\n two\n"


@dataclass(frozen=True)
class Row:
    """`says` are parts of the message or of its hint."""

    name: str
    code: str
    words: tuple[str, ...]
    tool: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)
    says: tuple[str, ...] = ()
    exit_code: int = 1

    @property
    def ask(self) -> Ask:
        return Ask(self.words, self.tool, self.arguments)

    def asked(self) -> Iterator[str]:
        """Of which front ends this can be asked."""
        if self.words:
            yield "command_line"
        if self.tool:
            yield "mcp"


def _create(title: str, code: str, /, *flags: str, says: tuple[str, ...] = (), **arguments: object) -> Row:
    words = ("create", "debian:12", *flags)
    return Row(title, code, words, "workspace_create", {"environment": "debian:12", **arguments}, says)


def _seed(path: str, code: str, *says: str) -> Row:
    on_host = path if path.startswith("/") else f"{FOLDER}/{path}"
    return _create(f"seed {path}", code, "--seed-path", on_host, seed_path=path, says=says)


def _of(workspace: str, code: str, says: tuple[str, ...]) -> Iterator[Row]:
    """Everything that can be done with a workspace, asked of this one."""
    one = {"workspace": workspace}
    file = {**one, "path": "text"}
    to_host = ("--output", f"{FOLDER}/never")
    asked: tuple[tuple[tuple[str, ...], str, dict[str, object]], ...] = (
        (("status", workspace), "workspace_status", {**one}),
        (("update", workspace, "--clear-name"), "workspace_update", {**one, "clear_name": True}),
        (("exec", workspace, "--", "true"), "workspace_exec", {**one, "command": "true"}),
        (("logs", workspace), "workspace_logs", {**one}),
        (("file", "list", workspace), "workspace_file_list", {**one}),
        (("file", "read", workspace, "text"), "workspace_file_read", {**file}),
        (("file", "write", workspace, "text", "--text", "x"), "workspace_file_write", {**file, "text": "x"}),
        (("patch", "apply", workspace, "--patch", NEW), "workspace_patch_apply", {**one, "patch": NEW}),
        (("diff", workspace), "workspace_diff", {**one}),
        (("sync", "push", workspace, f"{FOLDER}/project"), "workspace_sync_push", {**one, "source": "project"}),
        (("export", workspace, "text", *to_host), "workspace_export", {**file, "output": "never"}),
        (("reset", workspace), "workspace_reset", {**one}),
        (("stop", workspace), "workspace_stop", {**one}),
        (("start", workspace), "workspace_start", {**one}),
        (("delete", workspace), "workspace_delete", {**one}),
        (("restore", workspace), "workspace_restore", {**one}),
        (("prune", workspace), "", {}),
    )
    for words, tool, arguments in asked:
        yield Row(f"{' '.join(words[:2])} of an unknown workspace", code, words, tool, arguments, says)


def _outside(path: str) -> Iterator[Row]:
    """Everything that takes a path in the workspace, with one that is not in it."""
    code, file = "outside_workspace", {"workspace": W, "path": path}
    out, says = ("--output", f"{FOLDER}/never"), ("/workspace",)
    push = {"workspace": W, "source": "project", "dest": path}
    yield Row(f"list {path}", code, ("file", "list", W, path), "workspace_file_list", {**file}, says)
    yield Row(f"read {path}", code, ("file", "read", W, path), "workspace_file_read", {**file}, says)
    yield Row(
        f"write {path}",
        code,
        ("file", "write", W, path, "--text", "x"),
        "workspace_file_write",
        {**file, "text": "x"},
        says,
    )
    yield Row(
        f"push to {path}",
        code,
        ("sync", "push", W, f"{FOLDER}/project", "--dest", path),
        "workspace_sync_push",
        push,
        says,
    )
    yield Row(f"export {path}", code, ("export", W, path, *out), "workspace_export", {**file, "output": "never"}, says)


def _file(name: str, code: str, verb: str, path: str, *says: str) -> Row:
    return Row(name, code, ("file", verb, W, path), f"workspace_file_{verb}", {"workspace": W, "path": path}, says)


def _push(name: str, code: str, source: str, *says: str) -> Row:
    words = ("sync", "push", W, f"{FOLDER}/{source}")
    return Row(name, code, words, "workspace_sync_push", {"workspace": W, "source": source}, says)


def _export(name: str, code: str, output: str, *says: str) -> Row:
    words = ("export", W, "text", "--output", f"{FOLDER}/{output}")
    return Row(name, code, words, "workspace_export", {"workspace": W, "path": "text", "output": output}, says)


def _patch(name: str, code: str, patch: str, *says: str) -> Row:
    words = ("patch", "apply", W, "--patch", patch)
    return Row(name, code, words, "workspace_patch_apply", {"workspace": W, "patch": patch}, says)


def _exec(name: str, code: str, exit_code: int, *command: str) -> Row:
    words = ("exec", W, "--", *command)
    return Row(name, code, words, "workspace_exec", {"workspace": W, "command": list(command)}, (), exit_code)


ROWS = (
    Row(
        "unknown environment",
        "unknown_environment",
        ("create", "debain:12"),
        "workspace_create",
        {"environment": "debain:12"},
        ("did you mean debian:12",),
    ),
    *_of(NO_W, "unknown_workspace", (f"did you mean {W}?",)),
    _create("name in use", "name_in_use", "--name", W, name=W, says=(W,)),
    _create("bad name", "bad_name", "--name", "../x", name="../x"),
    _create("bad label", "bad_label", "--label", "a b=c", labels={"a b": "c"}),
    _seed("missing", "path_not_found", "missing"),
    _seed("socket", "path_unsuitable", "socket"),
    _seed("/dev/null", "path_unsuitable", "/dev/null"),
    _seed("plain", "unknown_archive", ".tar"),
    Row(
        "seed out by a link",
        "path_not_allowed",
        (),
        "workspace_create",
        {"environment": "debian:12", "seed_path": "way-out"},
    ),
    _seed("absolute.tar", "bad_archive", "an absolute path"),
    _seed("above.tar", "bad_archive", "a path with .. in it"),
    _seed("roundabout.tar", "bad_archive", "a path with .. in it"),
    _seed("link-out.tar", "bad_archive", "a link out of the tree"),
    _seed("below-link.tar", "bad_archive", "below something that is no folder"),
    _seed("hard-link-out.tar", "bad_archive", ".. in it"),
    _seed("twice.tar", "bad_archive", "a second entry of this name"),
    _seed("device.tar", "bad_archive", "a device"),
    _seed("pipe.tar", "bad_archive", "a fifo"),
    _seed("sparse.tar", "bad_archive", "a sparse file"),
    _seed("huge.tar", "seed_too_large", "8192 MiB"),
    _seed("cut.tar", "bad_archive", "it ends in the middle"),
    _seed("cut.tgz", "bad_archive"),
    _seed("damaged.tgz", "bad_archive", "cannot be read"),
    _seed("rubbish.tar", "bad_archive", "a header"),
    _push("push of what is missing", "path_not_found", "missing"),
    _push("push of a file", "not_a_directory", "plain"),
    Row("push out by a link", "path_not_allowed", (), "workspace_sync_push", {"workspace": W, "source": "way-out"}),
    _patch("patch that does not apply", "patch_failed", NEW + BAD_HUNK, "text", "hunk 1", "eins", "one"),
    _patch("patch that is none", "bad_patch", "nonsense", "unified diff"),
    *_outside("/etc/escaped"),
    *_outside("../etc/escaped"),
    *_outside("a/../../escaped"),
    *_outside("link-out/escaped"),
    _file("read a missing file", "file_not_found", "read", "missing"),
    _file("list a missing folder", "file_not_found", "list", "missing"),
    _file("read a folder", "is_a_directory", "read", "."),
    _file("read a binary file", "not_utf8", "read", "binary"),
    Row(
        "write what is not UTF-8",
        "not_utf8",
        ("file", "write", W, "new", "--text-file", f"{FOLDER}/binary"),
        "workspace_file_write",
        {"workspace": W, "path": "new", "text": "\udcff"},
    ),
    _export("export onto a file", "output_exists", "there"),
    _export("export into nowhere", "path_not_found", "missing/never"),
    Row(
        "export out by a link",
        "path_not_allowed",
        (),
        "workspace_export",
        {"workspace": W, "path": "text", "output": "way-out/never"},
    ),
    Row(
        "unknown snapshot",
        "unknown_snapshot",
        ("reset", W, "--snapshot", "nightly"),
        "workspace_reset",
        {"workspace": W, "snapshot": "nightly"},
        ("nightly", "baseline"),
    ),
    Row(
        "unknown command",
        "unknown_command",
        ("logs", W, "x-000000"),
        "workspace_logs",
        {"workspace": W, "exec_id": "x-000000"},
    ),
    _exec("no such program", "command_not_found", 127, "no-such-program"),
    _exec("no such path", "command_not_found", 127, "/no/such/path"),
    _exec("not executable", "command_not_executable", 126, "/etc/passwd"),
    _exec("a folder as a program", "command_not_executable", 126, "/etc"),
    _exec("no command", "no_command", 1),
)
