//! Differences from the baseline: those of real overlays, applied by git.

mod trees;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::net::UnixListener;

use pyro_agent::tools::{diff, Place};
use trees::overlay::{put, Overlay};
use trees::random::Random;
use trees::*;

const PLENTY: u64 = 64 << 20;

/// Applies a difference to a copy of the lower layer, and takes it back.
fn assert_applies(overlay: &Overlay, text: &[u8], what: &str) {
    let copy = overlay.folder("copy");
    copy_tree(&overlay.lower(), &copy);
    let (old, new) = (read_tree(&overlay.lower()), read_tree(&overlay.merged()));
    if !text.is_empty() {
        let shown = || String::from_utf8_lossy(text);
        git_apply(&copy, &["--check"], text).unwrap_or_else(|error| panic!("{what}: {error}\n{}", shown()));
        git_apply(&copy, &[], text).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    assert_same(&read_tree(&copy), &new, what);
    if !text.is_empty() {
        git_apply(&copy, &["-R"], text).unwrap_or_else(|error| panic!("{what}, back: {error}"));
    }
    assert_same(&read_tree(&copy), &old, what);
}

fn lines(count: usize) -> String {
    (0..count).map(|number| format!("line {number}\n")).collect()
}

#[test]
fn random_changes_apply_with_git() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let overlay = Overlay::new(|lower| random.fill(lower, 3));
        for _ in 0..=random.below(25) {
            random.change(&overlay.merged());
        }
        let difference = overlay.diff(PLENTY);
        assert!(!difference.truncated);
        assert_applies(&overlay, &difference.text, &format!("seed {seed}"));
        let paths = difference.entries.iter().map(|(entry, _)| entry["path"].as_str().unwrap());
        // Others may be another name in bytes.
        let paths: Vec<&str> = paths.filter(|path| !path.contains(char::REPLACEMENT_CHARACTER)).collect();
        assert!(paths.is_sorted_by(|one, next| one < next), "seed {seed}: {paths:?}");
    }
}

#[test]
fn every_kind_of_change_has_its_word() {
    let overlay = Overlay::new(|lower| {
        for name in ["edited", "deleted", "run", "becomes-link", "touched", "folder/in"] {
            put(lower, name, format!("{name}\n"));
        }
        put(lower, "moved", lines(10));
    });
    let merged = overlay.merged();
    put(&merged, "added", "new\n");
    put(&merged, "edited", "other\n");
    put(&merged, "touched", "touched\n");
    fs::remove_file(merged.join("deleted")).unwrap();
    fs::rename(merged.join("moved"), merged.join("here")).unwrap();
    fs::set_permissions(merged.join("run"), Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(merged.join("becomes-link")).unwrap();
    symlink("edited", merged.join("becomes-link")).unwrap();
    fs::create_dir(merged.join("empty")).unwrap();
    fs::remove_dir_all(merged.join("folder")).unwrap();
    let difference = overlay.diff(PLENTY);
    let wanted = [
        "added added",
        "type becomes-link",
        "deleted deleted",
        "modified edited",
        "deleted folder/in",
        "renamed moved -> here",
        "mode run",
    ];
    assert_eq!(difference.summary(), wanted);
    let (entry, text) = &difference.entries[3];
    assert_eq!((entry["insertions"].as_u64(), entry["deletions"].as_u64()), (Some(1), Some(1)));
    assert!(text.starts_with("diff --git a/edited b/edited\nindex "), "{text}");
    assert!(text.ends_with(" 100644\n--- a/edited\n+++ b/edited\n@@ -1 +1 @@\n-edited\n+other\n"), "{text}");
    assert_eq!(difference.entries[6].0["new_mode"], 0o100_755);
    assert_eq!(difference.entries[1].0["kind"], "symlink");
    assert_applies(&overlay, &difference.text, "every kind");
}

#[test]
fn nothing_differs_where_nothing_was_done_or_all_was_undone() {
    let overlay = Overlay::new(|lower| put(lower, "a/b/c", "content\n"));
    assert!(overlay.diff(PLENTY).entries.is_empty());
    let merged = overlay.merged();
    fs::rename(merged.join("a"), merged.join("b")).unwrap();
    assert_eq!(overlay.diff(PLENTY).summary(), ["renamed a/b/c -> b/b/c"]);
    fs::rename(merged.join("b"), merged.join("a")).unwrap();
    fs::set_permissions(merged.join("a/b/c"), Permissions::from_mode(0o640)).unwrap();
    assert!(overlay.diff(PLENTY).entries.is_empty());
}

#[test]
fn files_of_renamed_folders_are_renamed() {
    let overlay = Overlay::new(|lower| {
        for name in ["one/deep/a", "one/deep/empty", "one/b", "two/c"] {
            put(lower, name, if name.ends_with("empty") { String::new() } else { format!("{name}\n{}", lines(9)) });
        }
        put(lower, "one/binary", b"\0\x01\x02");
    });
    let merged = overlay.merged();
    fs::rename(merged.join("one"), merged.join("three")).unwrap();
    put(&merged, "three/b", format!("one/b\n{}more\n", lines(9)));
    fs::rename(merged.join("three/deep"), merged.join("two/deep")).unwrap();
    fs::rename(merged.join("two"), merged.join("one")).unwrap();
    let difference = overlay.diff(PLENTY);
    let wanted = [
        "renamed two/c -> one/c",
        "renamed one/deep/a -> one/deep/a",
        "renamed one/deep/empty -> one/deep/empty",
        "renamed one/b -> three/b",
        "renamed one/binary -> three/binary",
    ];
    let wanted: Vec<&str> = wanted.into_iter().filter(|line| !line.contains("deep")).collect();
    assert_eq!(difference.summary(), wanted, "what came back to its old place is no change");
    assert_applies(&overlay, &difference.text, "renamed folders");
}

#[test]
fn a_renamed_folder_is_not_read() {
    // A file larger than what is ever shown, whose content nobody has to look at.
    let overlay = Overlay::new(|lower| {
        fs::create_dir(lower.join("old")).unwrap();
        fs::File::create(lower.join("old/large")).unwrap().set_len(1 << 40).unwrap();
    });
    fs::rename(overlay.merged().join("old"), overlay.merged().join("new")).unwrap();
    let difference = overlay.diff(PLENTY);
    assert_eq!(difference.summary(), ["renamed old/large -> new/large"]);
    assert!(!difference.truncated);
}

#[test]
fn a_folder_that_was_made_anew_hides_the_old_one() {
    let overlay = Overlay::new(|lower| {
        put(lower, "folder/kept", "kept\n");
        put(lower, "folder/gone/a", "gone\n");
    });
    let folder = overlay.merged().join("folder");
    fs::remove_dir_all(&folder).unwrap();
    put(&folder, "kept", "kept\n");
    put(&folder, "fresh", "fresh\n");
    assert_eq!(overlay.diff(PLENTY).summary(), ["added folder/fresh", "deleted folder/gone/a"]);
}

#[test]
fn similar_texts_are_renamings_and_others_are_not() {
    let overlay = Overlay::new(|lower| {
        put(lower, "a/same.py", lines(40));
        put(lower, "b/other.py", (0..40).map(|number| format!("{number}\n")).collect::<String>());
    });
    let merged = overlay.merged();
    put(&merged, "c/same.py", lines(40).replace("line 7\n", "line seven\n"));
    put(&merged, "c/new.py", "nothing alike\n");
    fs::remove_dir_all(merged.join("a")).unwrap();
    fs::remove_dir_all(merged.join("b")).unwrap();
    let difference = overlay.diff(PLENTY);
    assert_eq!(difference.summary(), ["deleted b/other.py", "added c/new.py", "renamed a/same.py -> c/same.py"]);
    assert!(difference.entries[2].1.contains("similarity index 9"), "{}", difference.entries[2].1);
}

#[test]
fn git_folders_and_what_is_no_file_are_left_out() {
    let overlay = Overlay::new(|lower| {
        put(lower, ".git/config", "old\n");
        put(lower, "sub/.git/config", "old\n");
        put(lower, "moved/.git/config", "old\n");
        put(lower, "moved/file", "file\n");
    });
    let merged = overlay.merged();
    put(&merged, ".git/config", "new\n");
    fs::remove_dir_all(merged.join("sub/.git")).unwrap();
    put(&merged, "sub/.git", "gitdir: elsewhere\n");
    fs::rename(merged.join("moved"), merged.join("there")).unwrap();
    let _socket = UnixListener::bind(merged.join("socket")).unwrap();
    nix::unistd::mkfifo(&merged.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(overlay.diff(PLENTY).summary(), ["renamed moved/file -> there/file"]);
}

#[test]
fn text_beyond_the_limit_is_left_out_and_told() {
    let overlay = Overlay::new(|_| {});
    put(&overlay.merged(), "a", lines(5));
    put(&overlay.merged(), "b", lines(500));
    put(&overlay.merged(), "c", lines(5));
    let whole = overlay.diff(PLENTY);
    let difference = overlay.diff(1000);
    assert!(difference.truncated);
    assert_eq!(difference.summary(), whole.summary());
    let lengths: Vec<usize> = difference.entries.iter().map(|(_, text)| text.len()).collect();
    assert!(lengths[0] > 0 && lengths[1] == 0 && lengths[2] > 0, "{lengths:?}");
    assert_eq!(difference.entries[1].0["insertions"], 500, "lines count all the same");
    assert!(!overlay.diff(whole.text.len() as u64).truncated);
    assert!(overlay.diff(whole.text.len() as u64 - 1).truncated);
}

#[test]
fn large_files_are_listed_without_text() {
    let overlay = Overlay::new(|lower| {
        fs::File::create(lower.join("sparse")).unwrap().set_len(17 << 20).unwrap();
        fs::File::create(lower.join("touched")).unwrap().set_len(17 << 20).unwrap();
    });
    let merged = overlay.merged();
    fs::File::options().write(true).open(merged.join("sparse")).unwrap().set_len(18 << 20).unwrap();
    fs::File::options().write(true).open(merged.join("touched")).unwrap().set_len(17 << 20).unwrap();
    let difference = overlay.diff(PLENTY);
    assert_eq!(difference.summary(), ["modified sparse"]);
    assert!(difference.truncated && difference.text.is_empty());
}

#[test]
fn the_lower_layer_is_only_looked_at_where_something_changed() {
    let overlay = Overlay::new(|lower| {
        for number in 0..20 {
            put(lower, &format!("{number}/file"), "content\n");
        }
    });
    put(&overlay.merged(), "3/file", "other\n");
    let unread = overlay.lower().join("4");
    let before = fs::metadata(&unread).unwrap().accessed().unwrap();
    let difference = overlay.diff(PLENTY);
    assert_eq!(difference.summary(), ["modified 3/file"]);
    assert_eq!(fs::metadata(&unread).unwrap().accessed().unwrap(), before);
}

#[test]
fn deep_folders_and_long_names_do_no_harm() {
    let overlay = Overlay::new(|_| {});
    let mut folder = overlay.merged();
    for _ in 0..10 {
        folder = folder.join("d".repeat(200));
    }
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("file"), "content\n").unwrap();
    assert_eq!(overlay.diff(PLENTY).entries.len(), 1);
}

#[test]
fn without_layers_there_is_no_baseline() {
    let scratch = Scratch::new();
    let place = Place::open(&scratch.folder("workspace"), None, None, None).unwrap();
    let error = diff::run(&place, PLENTY, &mut io::empty(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.message, "/workspace has no baseline to compare with");
}
