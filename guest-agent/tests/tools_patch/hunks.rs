//! Hunks for one file: where they fit, what they make, and why they do not fit.

use super::trees::overlay::put;
use super::trees::Scratch;
use super::{failure, patch_folder, text};

/// Applies a patch to the one file `f` of a folder, and returns what is in it then.
fn patched(content: &str, patch: &str) -> String {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "f", content);
    patch_folder(&folder, patch).unwrap_or_else(|error| panic!("{}\n{patch}", error.message));
    text(&folder, "f")
}

fn why_not(content: &str, patch: &str) -> String {
    let scratch = Scratch::new();
    let folder = scratch.folder("workspace");
    put(&folder, "f", content);
    failure(&folder, patch).message
}

#[test]
fn blank_lines_may_have_lost_their_space_and_ends_their_white_space() {
    assert_eq!(patched("a\n\nb\nc\n", "--- f\n+++ f\n@@ -1,4 +1,4 @@\n a\n\n-b\n+B\n c\n"), "a\n\nB\nc\n");
    assert_eq!(patched("a  \nb\t\nc\n", "--- f\n+++ f\n@@\n a\n-b\n+B\n c\n"), "a  \nB\nc\n");
}

#[test]
fn new_lines_end_like_those_around_them() {
    let patch = "--- f\n+++ f\n@@ -1,2 +1,3 @@\n a\n-b\n+B\n+C\n";
    assert_eq!(patched("a\r\nb\r\n", patch), "a\r\nB\r\nC\r\n");
    assert_eq!(patched("a\nb", patch), "a\nB\nC");
    assert_eq!(patched("a\r\nb", patch), "a\r\nB\r\nC");
    assert_eq!(patched("a\nb", "--- f\n+++ f\n@@ -1,2 +1,3 @@\n a\n b\n+c\n"), "a\nb\nc");
    let ends = "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\r\n+b\n";
    assert_eq!(patched("a\nb\r\n", ends), "a\nb\n", "line ends can be what is changed");
    let inserted = "--- f\n+++ f\n@@ -1,0 +2,1 @@\n+x\n";
    assert_eq!(patched("a\r\nb\r\n", inserted), "a\r\nx\r\nb\r\n");
    assert_eq!(patched("a", inserted), "a\nx\n");
}

#[test]
fn a_heading_tells_where_a_hunk_belongs() {
    let file = "def f():\n    return 1\n\ndef g():\n    return 1\n";
    let patch = "--- f\n+++ f\n@@ def g():\n-    return 1\n+    return 2\n";
    assert_eq!(patched(file, patch), "def f():\n    return 1\n\ndef g():\n    return 2\n");
    let without = patch.replace(" def g():", "");
    assert!(why_not(file, &without).contains("fits in several places (lines 2, 5)"));
}

#[test]
fn hunks_may_overlap_and_come_in_any_order() {
    let file = "1\n2\n3\n4\n5\n6\n";
    let overlapping = "--- f\n+++ f\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n@@ -3,3 +3,3 @@\n 3\n-4\n+four\n 5\n";
    assert_eq!(patched(file, overlapping), "1\ntwo\n3\nfour\n5\n6\n");
    let reversed = "--- f\n+++ f\n@@ @@\n-5\n+five\n@@ @@\n-1\n+one\n";
    assert_eq!(patched(file, reversed), "one\n2\n3\n4\nfive\n6\n");
}

#[test]
fn a_hunk_that_does_not_fit_is_explained() {
    let file: String = (1..=40).map(|number| format!("line {number}\n")).collect();
    let patch = "--- a/f\n+++ b/f\n@@ -3,1 +3,1 @@\n-line 3\n+three\n@@ -20,3 +20,3 @@\n line 20\n-line twenty-one\n+x\n line 22\n";
    let wanted = "/workspace/f: hunk 2 of 2 (@@ -20,3 +20,3 @@) does not fit.\n\
        The patch expects from line 20 on:\n    line 20\n    line twenty-one\n    line 22\n\
        The nearest that stands in the file, from line 20 on:\n    line 20\n    line 21\n    line 22\n\
        The first difference is in line 21 of the file.\n";
    assert_eq!(why_not(&file, patch), wanted);
    let already =
        why_not("line 1\nthree\nline 4\n", "--- f\n+++ f\n@@ -1,3 +1,3 @@\n line 1\n-line 3\n+three\n line 4\n");
    assert!(already.contains("It looks as if it were applied already."), "{already}");
    assert!(
        why_not("a\n", "--- f\n+++ f\n@@ -1 +1 @@\n-q\n+r\n").ends_with("None of these lines stands in the file.\n")
    );
    let long = "x".repeat(10_000) + "\n";
    let many = why_not(
        &long.repeat(500),
        &format!("--- f\n+++ f\n@@ -1 +1 @@\n{}+r\n", format!("-{long}").repeat(400).replacen('x', "y", 1)),
    );
    assert!(many.len() < 10_000 && many.contains("(388 more)"), "{many}");
}
