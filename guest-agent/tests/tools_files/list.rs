//! Listing folders.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::net::UnixListener;

use pyro_agent::tools::Code;
use serde_json::{json, Value};

use crate::support::{assert_code, os, set_mtime, Scratch};

fn paths(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["path"].as_str().unwrap()).collect()
}

#[test]
fn an_entry_says_what_it_is() {
    let scratch = Scratch::new();
    scratch.put("file", "12345");
    fs::set_permissions(scratch.path("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    set_mtime(&scratch.path("file"), 1_700_000_000, 123_456_789);
    fs::create_dir(scratch.path("folder")).unwrap();
    symlink("/else/where", scratch.path("link")).unwrap();
    let _listener = UnixListener::bind(scratch.path("socket")).unwrap();
    let lines = scratch.list("/workspace", false, 10).unwrap();
    assert_eq!(
        lines[0],
        json!({"path": "/workspace/file", "kind": "file", "size": 5, "mode": 0o4751,
               "mtime_ns": 1_700_000_000_123_456_789_i64, "target": null})
    );
    let kinds: Vec<&Value> = lines.iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["file", "directory", "symlink", "other"]);
    assert_eq!(lines[2]["target"], "/else/where");
}

#[test]
fn only_a_recursive_listing_goes_deeper() {
    let scratch = Scratch::new();
    for path in ["a/b/c", "a-b", "a.c", "b/x"] {
        scratch.put(path, "");
    }
    let flat = scratch.list("/workspace", false, 100).unwrap();
    assert_eq!(paths(&flat), ["/workspace/a", "/workspace/a-b", "/workspace/a.c", "/workspace/b"]);
    let below = scratch.list("/workspace/a", true, 100).unwrap();
    assert_eq!(paths(&below), ["/workspace/a/b", "/workspace/a/b/c"]);
    let all = scratch.list("/workspace", true, 100).unwrap();
    let mut sorted = paths(&all);
    sorted.sort_unstable();
    assert_eq!(paths(&all), sorted);
    assert_eq!(all.len(), 7);
}

#[test]
fn a_limit_shows_the_first_ones_and_that_there_are_more() {
    let scratch = Scratch::new();
    for folder in ["a", "a-", "b", "empty", "z"] {
        fs::create_dir(scratch.path(folder)).unwrap();
        for number in 0..if folder == "empty" { 0 } else { 7 } {
            scratch.put(&format!("{folder}/{number}"), "");
        }
    }
    for recursive in [false, true] {
        let all = scratch.list("/workspace", recursive, 1000).unwrap();
        for limit in 0..all.len() {
            let some = scratch.list("/workspace", recursive, limit as u64).unwrap();
            assert_eq!(some[..limit], all[..limit]);
            assert_eq!(some[limit..], [json!({"truncated": true})]);
        }
        assert_eq!(scratch.list("/workspace", recursive, all.len() as u64).unwrap(), all);
    }
}

#[test]
fn a_large_folder_is_listed_in_order() {
    let scratch = Scratch::new();
    for number in 0..5000 {
        fs::write(scratch.path(format!("{number:05}")), "").unwrap();
    }
    let some = scratch.list("/workspace", false, 3).unwrap();
    assert_eq!(paths(&some[..3]), ["/workspace/00000", "/workspace/00001", "/workspace/00002"]);
    assert_eq!(scratch.list("/workspace", false, 5000).unwrap().len(), 5000);
}

#[test]
fn a_tree_may_be_deeper_than_files_can_be_open() {
    let scratch = Scratch::new();
    let deep = "d/".repeat(1100);
    fs::create_dir_all(scratch.path(&deep)).unwrap();
    assert_eq!(scratch.list("/workspace", true, 10_000).unwrap().len(), 1100);
}

#[test]
fn names_that_are_no_text_are_shown_with_a_mark() {
    let scratch = Scratch::new();
    fs::write(scratch.path(os(b"\xff\"\n")), "").unwrap();
    symlink(os(b"\xfe"), scratch.path("link")).unwrap();
    let lines = scratch.list("/workspace", false, 10).unwrap();
    assert_eq!(paths(&lines), ["/workspace/link", "/workspace/\u{fffd}\"\n"]);
    assert_eq!(lines[0]["target"], "\u{fffd}");
}

#[test]
fn links_are_followed_to_the_folder_but_not_in_it() {
    let scratch = Scratch::new();
    scratch.put("real/file", "");
    symlink("real", scratch.path("inside")).unwrap();
    symlink("../beside", scratch.path("out")).unwrap();
    symlink(scratch.path("real"), scratch.path("absolute")).unwrap();
    fs::write(scratch.beside().join("secret"), "").unwrap();
    assert_eq!(paths(&scratch.list("/workspace/inside", true, 10).unwrap()), ["/workspace/inside/file"]);
    assert_eq!(scratch.list("/workspace", true, 10).unwrap().len(), 5);
    for path in ["/workspace/out", "/workspace/absolute", "/workspace/..", "/workspace/real/../..", "/", "/workspaces"]
    {
        assert_code(scratch.list(path, true, 10), Code::Outside);
    }
}

#[test]
fn only_folders_are_listed() {
    let scratch = Scratch::new();
    scratch.put("file", "");
    assert_code(scratch.list("/workspace/file", false, 10), Code::NotADirectory);
    assert_code(scratch.list("/workspace/file/below", false, 10), Code::NotADirectory);
    let message = assert_code(scratch.list("/workspace/no/where", false, 10), Code::NotFound);
    assert!(message.contains("/workspace/no/where"), "{message}");
}
