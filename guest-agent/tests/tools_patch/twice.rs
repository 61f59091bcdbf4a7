//! Patches that are sent twice, and lines that are wanted twice.

use pyro_agent::tools::Code;

use super::trees::overlay::put;
use super::trees::Scratch;
use super::{failure, patch_folder, text};

/// Applies hunks to a file with a content, has what comes out refuse them, and returns both that and the refusal.
fn refused_twice(content: &str, hunks: &str) -> (String, String) {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "f", content);
    let patch = format!("--- a/f\n+++ b/f\n{hunks}");
    patch_folder(&folder, &patch).unwrap_or_else(|error| panic!("{}\n{patch}", error.message));
    let error = failure(&folder, &patch);
    assert_eq!(error.code, Code::PatchFailed, "{}", error.message);
    (text(&folder, "f"), error.message)
}

fn assert_refused_twice(content: &str, hunks: &str, wanted: &str) {
    let (made, message) = refused_twice(content, hunks);
    assert_eq!(made, wanted, "{hunks}");
    assert!(message.contains("seems to be applied already"), "{message}");
}

fn patched(content: &str, hunks: &str) -> String {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "f", content);
    patch_folder(&folder, format!("--- a/f\n+++ b/f\n{hunks}")).unwrap_or_else(|error| panic!("{}", error.message));
    text(&folder, "f")
}

#[test]
fn lines_are_not_added_twice() {
    let (made, message) = refused_twice("one\n", "@@ -1 +1,2 @@\n one\n+two\n");
    assert_eq!(made, "one\ntwo\n");
    assert_eq!(
        message,
        "/workspace/f: hunk 1 of 1 (@@ -1 +1,2 @@) seems to be applied already: what it would make stands in the file \
        from line 1 on. Then it is not needed; to add its lines once more all the same, give it more lines of \
        context after them"
    );
    for (content, hunks, wanted) in [
        ("a\nb\nc\n", "@@ -2 +2,2 @@\n b\n+x\n", "a\nb\nx\nc\n"),
        ("a\nb\nc\n", "@@ @@\n b\n+x\n", "a\nb\nx\nc\n"),
        ("a\nb\nc\n", "@@ -1,0 +2,2 @@\n+x\n+y\n", "a\nx\ny\nb\nc\n"),
        ("a\n", "@@ -0,0 +1,2 @@\n+x\n+y\n", "x\ny\na\n"),
        ("a\n", "@@ -1,0 +2 @@\n+x\n", "a\nx\n"),
        ("a\n", "@@ -99,0 +100,2 @@\n+x\n+y\n", "a\nx\ny\n"),
        ("a\nb\n", "@@ -1 +1,3 @@\n-a\n+a\n+x\n+y\n", "a\nx\ny\nb\n"),
    ] {
        assert_refused_twice(content, hunks, wanted);
    }
}

#[test]
fn a_file_is_not_made_twice_by_a_patch_that_says_it_was_there() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    let patch = "--- a/s2\n+++ b/s2\n@@ -0,0 +1,2 @@\n+x\n+y\n";
    assert_eq!(patch_folder(&folder, patch).unwrap()[0]["change"], "added");
    assert!(failure(&folder, patch).message.contains("seems to be applied already"));
    put(&folder, "s2", "x\nother\n");
    patch_folder(&folder, patch).unwrap();
    assert_eq!(text(&folder, "s2"), "x\ny\nx\nother\n");
}

#[test]
fn ends_of_lines_do_not_hide_that_a_hunk_is_applied() {
    for (content, hunks, wanted) in [
        ("a\r\nb\r\n", "@@ -1 +1,2 @@\n a\n+x\n", "a\r\nx\r\nb\r\n"),
        ("a\r\nb\r\n", "@@ -1,0 +2 @@\n+x\n", "a\r\nx\r\nb\r\n"),
        ("a", "@@ -1 +1,2 @@\n a\n+x\n", "a\nx"),
        ("a\n", "@@ -1 +1,2 @@\n a\n+x\n\\ No newline at end of file\n", "a\nx"),
        ("a", "@@ -1 +1,2 @@\n-a\n\\ No newline at end of file\n+a\n+x\n", "a\nx\n"),
        ("a  \nb\n", "@@ -1 +1,2 @@\n a\n+x\n", "a  \nx\nb\n"),
    ] {
        assert_refused_twice(content, hunks, wanted);
    }
}

#[test]
fn context_that_follows_at_the_stated_place_tells_the_same() {
    let (_, message) = refused_twice("a\nb\n", "@@ -1,2 +1,3 @@\n a\n+x\n b\n");
    assert!(message.ends_with("stands in the file from line 1 on. Then it is not needed"), "{message}");
    let (made, message) = refused_twice("a\nb\nc\na\nb\n", "@@ -1,2 +1,3 @@\n a\n+x\n b\n");
    assert_eq!(made, "a\nx\nb\nc\na\nb\n", "where the old lines stand elsewhere they are left alone");
    assert!(message.ends_with("if it is meant for another place, correct its line numbers"), "{message}");
    assert_eq!(patched(&made, "@@ -5,2 +5,3 @@\n a\n+x\n b\n"), "a\nx\nb\nc\na\nx\nb\n");
    assert_eq!(patched(&made, "@@ @@\n a\n+x\n b\n"), "a\nx\nb\nc\na\nx\nb\n");
}

#[test]
fn lines_that_are_wanted_twice_need_the_context_that_proves_it() {
    assert_eq!(patched("a\nx\nb\n", "@@ -1,3 +1,4 @@\n a\n+x\n x\n b\n"), "a\nx\nx\nb\n");
    assert_eq!(patched("a\nx\n", "@@ -1,2 +1,3 @@\n a\n+x\n x\n"), "a\nx\nx\n");
    assert_eq!(patched("a\nx\n", "@@ -1,2 +1,3 @@\n a\n x\n+x\n"), "a\nx\nx\n");
    assert_eq!(patched("x\ny\n", "@@ -0,0 +1,2 @@\n+x\n+y\n x\n"), "x\ny\nx\ny\n");
    let twice = "@@ -1 +1,2 @@\n a\n+x\n@@ -3 +4,2 @@\n a\n+x\n";
    assert_eq!(patched("a\nb\na\nb\n", twice), "a\nx\nb\na\nx\nb\n");
}

#[test]
fn shorter_files_and_other_ends_of_lines_are_no_sign() {
    assert_eq!(patched("a\nx\nx\n", "@@ -1,2 +1 @@\n a\n-x\n"), "a\nx\n");
    assert_eq!(patched("a\r\nb\n", "@@ -1 +1 @@\n-a\r\n+a\n"), "a\nb\n");
    assert_eq!(patched("a", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"), "a\n");
}

#[test]
fn of_a_patch_that_is_applied_in_part_nothing_is() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "a", "a\n");
    put(&folder, "b", "b\nx\n");
    let patch = "--- a/a\n+++ b/a\n@@ -1 +1,2 @@\n a\n+x\n--- a/b\n+++ b/b\n@@ -1 +1,2 @@\n b\n+x\n";
    assert!(failure(&folder, patch).message.starts_with("/workspace/b: hunk 1 of 1"));
}

#[test]
fn what_renames_or_copies_a_file_does_so_once() {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "a", "a\n");
    let patch = |kind: &str, old: &str, new: &str| {
        format!(
            "diff --git a/{old} b/{new}\n{kind} from {old}\n{kind} to {new}\n--- a/{old}\n+++ b/{new}\n\
            @@ -1 +1,2 @@\n a\n+x\n"
        )
    };
    patch_folder(&folder, patch("copy", "a", "copied")).unwrap();
    assert_eq!(failure(&folder, patch("copy", "a", "copied")).code, Code::Exists);
    patch_folder(&folder, patch("rename", "a", "renamed")).unwrap();
    assert_eq!(failure(&folder, patch("rename", "a", "renamed")).code, Code::NotFound);
    assert_eq!((text(&folder, "copied"), text(&folder, "renamed")), ("a\nx\n".into(), "a\nx\n".into()));
    let again = failure(&folder, patch("rename", "renamed", "other"));
    assert!(again.message.contains("seems to be applied already"), "{}", again.message);
}
