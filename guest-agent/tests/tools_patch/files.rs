//! What a patch does to files and folders, and what it is not allowed to do.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::Path;

use pyro_agent::tools::{patch, Code, Place};
use serde_json::json;

use super::trees::overlay::{put, Overlay};
use super::trees::random::Random;
use super::trees::*;
use super::{failure, patch_folder, text};

#[test]
fn every_kind_of_change_is_reported() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "edited", "1\n2\n3\n4\n5\n");
    put(&folder, "gone/deleted", "bye\n");
    put(&folder, "old", "text\n");
    put(&folder, "run", "#!/bin/sh\n");
    let patch = "--- a/edited\n+++ b/edited\n@@ -2,1 +2,1 @@\n-3\n+three\n\
        --- /dev/null\n+++ b/made/here\n@@ -0,0 +1 @@\n+hello\n\
        --- a/gone/deleted\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n\
        diff --git a/old b/new\nrename from old\nrename to new\n\
        diff --git a/run b/run\nold mode 100644\nnew mode 100755\n\
        diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+made/here\n\\ No newline\n";
    let entry = |path: &str, change: &str, hunks: u32, old_path: Option<&str>, offset: u32| json!({"path": path, "change": change, "hunks": hunks, "old_path": old_path, "offset_lines": offset});
    let wanted = [
        entry("/workspace/edited", "modified", 1, None, 1),
        entry("/workspace/made/here", "added", 1, None, 0),
        entry("/workspace/gone/deleted", "deleted", 1, None, 0),
        entry("/workspace/new", "renamed", 0, Some("/workspace/old"), 0),
        entry("/workspace/run", "modified", 0, None, 0),
        entry("/workspace/link", "added", 1, None, 0),
    ];
    assert_eq!(patch_folder(&folder, patch).unwrap(), wanted);
    assert_eq!(text(&folder, "edited"), "1\n2\nthree\n4\n5\n");
    assert_eq!(fs::read_link(folder.join("link")).unwrap(), Path::new("made/here"));
    assert_eq!(fs::metadata(folder.join("run")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(read_tree(&folder).len(), 5);
    assert!(!folder.join("gone").exists(), "a folder goes with its last file");
}

#[test]
fn a_file_keeps_its_mode_and_its_owner() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "f", "a\n");
    let path = folder.join("f");
    std::os::unix::fs::chown(&path, Some(1234), Some(2345)).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o6750)).unwrap();
    patch_folder(&folder, "--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n").unwrap();
    let now = fs::metadata(&path).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (1234, 2345, 0o6750));
    assert_eq!(text(&folder, "f"), "b\n");
}

#[test]
fn all_or_nothing_is_applied() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "a", "a\n");
    put(&folder, "b", "b\n");
    let error = failure(&folder, "--- a\n+++ a\n@@ -1 +1 @@\n-a\n+A\n--- b\n+++ b\n@@ -1 +1 @@\n-x\n+B\n");
    assert_eq!(error.code, Code::PatchFailed);
}

#[test]
fn steps_are_taken_back_where_one_fails() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "a", "a\n");
    put(&folder, "gone/file", "gone\n");
    put(&folder, "z/in-the-way", "here\n");
    fs::set_permissions(folder.join("gone"), Permissions::from_mode(0o700)).unwrap();
    let before = fs::metadata(folder.join("a")).unwrap();
    let patch = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-a\n+A\n--- a/gone/file\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n\
        --- /dev/null\n+++ b/new/folder/file\n@@ -0,0 +1 @@\n+new\n--- /dev/null\n+++ b/z\n@@ -0,0 +1 @@\n+file\n";
    assert_eq!(failure(&folder, patch).code, Code::IsADirectory);
    let after = fs::metadata(folder.join("a")).unwrap();
    assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()), "it is the same file again");
    assert_eq!(fs::metadata(folder.join("gone")).unwrap().mode() & 0o7777, 0o700);
    assert!(!folder.join("new").exists());
}

#[test]
fn an_overlay_is_patched_like_any_folder() {
    let overlay = Overlay::new(|lower| {
        put(lower, "a", "a\n");
        put(lower, "gone/file", "gone\n");
        put(lower, "z/in-the-way", "here\n");
    });
    let patch = "--- a/a\n+++ b/a\n@@ -1 +1 @@\n-a\n+A\n--- a/gone/file\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n";
    let fails = format!("{patch}--- /dev/null\n+++ b/z\n@@ -0,0 +1 @@\n+file\n");
    assert_eq!(failure(&overlay.merged(), fails).code, Code::IsADirectory);
    assert!(overlay.diff(1 << 20).entries.is_empty(), "nothing is left of a patch that fails");
    patch_folder(&overlay.merged(), patch).unwrap();
    let difference = overlay.diff(1 << 20);
    assert_eq!(difference.summary(), ["modified a", "deleted gone/file"]);
    patch_folder(&overlay.lower(), difference.text).unwrap();
    assert_same(&read_tree(&overlay.lower()), &read_tree(&overlay.merged()), "the difference of a patch");
}

#[test]
fn a_folder_that_a_killed_process_has_left_does_no_harm() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    let left = folder.join(format!(".pyro-{}-patch-0.tmp", std::process::id()));
    fs::create_dir(&left).unwrap();
    patch_folder(&folder, "--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+a\n").unwrap();
    assert_eq!(text(&folder, "f"), "a\n");
    assert!(left.exists());
}

#[test]
fn files_and_folders_change_places() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "folder/in", "in\n");
    put(&folder, "file", "file\n");
    let patch =
        "--- /dev/null\n+++ b/folder\n@@ -0,0 +1 @@\n+now a file\n--- a/folder/in\n+++ /dev/null\n@@ -1 +0,0 @@\n-in\n\
        --- a/file\n+++ /dev/null\n@@ -1 +0,0 @@\n-file\n--- /dev/null\n+++ b/file/in\n@@ -0,0 +1 @@\n+in a folder\n";
    patch_folder(&folder, patch).unwrap();
    assert_eq!((text(&folder, "folder"), text(&folder, "file/in")), ("now a file\n".into(), "in a folder\n".into()));
}

#[test]
fn files_swap_their_names() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "a", "a\n");
    put(&folder, "b", "b\n");
    let patch = "diff --git a/a b/b\nrename from a\nrename to b\ndiff --git a/b b/a\nrename from b\nrename to a\n";
    patch_folder(&folder, patch).unwrap();
    assert_eq!((text(&folder, "a"), text(&folder, "b")), ("b\n".into(), "a\n".into()));
}

#[test]
fn what_is_there_or_not_is_told() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "f", "hello\n");
    put(&folder, "d/f", "hello\n");
    symlink("f", folder.join("link")).unwrap();
    symlink("/etc", folder.join("etc")).unwrap();
    symlink("d", folder.join("dlink")).unwrap();
    let changed = |name: &str| format!("--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-hello\n+bye\n");
    let made = |name: &str| format!("--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+hello\n");
    for (patch, code, message) in [
        (changed("none"), Code::NotFound, "the patch changes /workspace/none, which does not exist"),
        (made("f"), Code::Exists, "the patch makes /workspace/f, which exists already, with just this content"),
        (changed("d"), Code::IsADirectory, "/workspace/d: Is a directory"),
        (changed("link"), Code::NotAFile, "/workspace/link is a symbolic link to f; name the file itself"),
        (changed("etc/passwd"), Code::Outside, "/workspace/etc/passwd leads through a symbolic link"),
        (made("etc/new"), Code::Outside, "/workspace/etc/new leads through a symbolic link"),
        (changed("dlink/f"), Code::Outside, "/workspace/dlink/f leads through a symbolic link"),
        (changed("../f"), Code::Outside, "the patch names"),
        (made(".git/hooks/pre-commit"), Code::Outside, "which is in a .git folder"),
        ("diff --git a/f b/f\n".into(), Code::BadPatch, "but there are none"),
        (
            "diff --git a/f b/f\nindex 1..2\nBinary files a/f and b/f differ\n".into(),
            Code::BadPatch,
            "git diff --binary",
        ),
        ("diff --git a/sub b/sub\nnew file mode 160000\n".into(), Code::BadPatch, "mode 160000"),
        ("--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-bye\n".into(), Code::PatchFailed, "does not fit"),
        (made("f/below"), Code::NotADirectory, "/workspace/f: Not a directory"),
    ] {
        let error = failure(&folder, &patch);
        assert_eq!((error.code, error.message.contains(message)), (code, true), "{patch}{}", error.message);
    }
}

#[test]
fn only_what_makes_sense_is_taken_without_hunks() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "f", "hello\n");
    patch_folder(&folder, "--- a/f\n+++ /dev/null\n").unwrap();
    patch_folder(&folder, "diff --git a/empty b/empty\nnew file mode 100755\nindex 0000000..e69de29\n").unwrap();
    patch_folder(&folder, "--- a/not-there\n+++ b/not-there\n@@ -0,0 +1 @@\n+made\n").unwrap();
    assert_eq!(text(&folder, "not-there"), "made\n");
    let tree = read_tree(&folder);
    assert_eq!(tree[&b"empty"[..]], Node::File { content: Vec::new(), executable: true });
    assert_eq!(tree.len(), 2);
}

#[test]
fn a_binary_patch_is_for_one_content_only() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    let mut random = Random::new(1);
    let old = [&b"\0"[..], &random.bytes(5000)].concat();
    let new = [&old[..2000], b"something else", &old[2500..]].concat();
    fs::write(folder.join("old"), &old).unwrap();
    fs::write(folder.join("new"), &new).unwrap();
    let patch = git(&folder, &["diff", "--no-index", "--binary", "old", "new"], b"").unwrap();
    let patch = String::from_utf8(patch).unwrap().replace("b/new", "b/old");
    assert!(patch.contains("delta "), "{patch}");
    patch_folder(&folder, &patch).unwrap();
    assert_eq!(fs::read(folder.join("old")).unwrap(), new);
    let error = failure(&folder, &patch);
    assert!(
        error.message.ends_with("is for another content than the file has; it is applied already"),
        "{}",
        error.message
    );
}

#[test]
fn what_is_too_large_is_refused() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    assert_eq!(failure(&folder, vec![b'\n'; (8 << 20) + 1]).message, "the patch is larger than 8 MiB");
    fs::File::create(folder.join("f")).unwrap().set_len(65 << 20).unwrap();
    let place = Place::open(&folder, None, None, None).unwrap();
    let patch = b"--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b\n";
    let error = patch::run(&place, &mut &patch[..], &mut io::sink()).unwrap_err();
    assert!(error.message.contains("larger than 64 MiB"), "{}", error.message);
}
