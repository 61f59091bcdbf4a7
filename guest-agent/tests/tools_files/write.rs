//! Writing files.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pyro_agent::tools::Code;
use serde_json::json;

use crate::support::{assert_code, is_root, Breaking, Dice, Scratch};

fn mode(scratch: &Scratch, path: &str) -> u32 {
    scratch.path(path).symlink_metadata().unwrap().mode() & 0o7777
}

#[test]
fn a_new_file_gets_its_folders() {
    let scratch = Scratch::new();
    let written = scratch.write("/workspace/a/b/file", b"text").unwrap();
    assert_eq!(written, json!({"size": 4, "created": true}));
    assert_eq!(scratch.text("a/b/file"), "text");
    assert_eq!((mode(&scratch, "a"), mode(&scratch, "a/b/file")), (0o755, 0o644));
    scratch.assert_clean();
}

#[test]
fn an_old_file_keeps_mode_and_owner() {
    let scratch = Scratch::new();
    scratch.put("file", "old and long");
    if is_root() {
        std::os::unix::fs::chown(scratch.path("file"), Some(1234), Some(5678)).unwrap();
    }
    fs::set_permissions(scratch.path("file"), fs::Permissions::from_mode(0o751)).unwrap();
    let owner = |scratch: &Scratch| {
        let metadata = scratch.path("file").metadata().unwrap();
        (metadata.uid(), metadata.gid())
    };
    let before = owner(&scratch);
    assert_eq!(scratch.write("/workspace/file", b"").unwrap(), json!({"size": 0, "created": false}));
    assert_eq!((scratch.text("file"), mode(&scratch, "file"), owner(&scratch)), (String::new(), 0o751, before));
    scratch.assert_clean();
}

#[test]
fn a_large_file_arrives_whole() {
    let scratch = Scratch::new();
    let content = Dice(2).bytes(1_000_003);
    assert_eq!(scratch.write("/workspace/file", &content).unwrap()["size"], 1_000_003);
    assert_eq!(fs::read(scratch.path("file")).unwrap(), content);
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_written() {
    let scratch = Scratch::new();
    scratch.put("folder/target", "old");
    symlink("../folder", scratch.path("folder/itself")).unwrap();
    symlink("itself/./target", scratch.path("folder/second")).unwrap();
    symlink("folder/second", scratch.path("first")).unwrap();
    symlink("/workspace/folder/target", scratch.path("absolute")).unwrap();
    symlink("folder/new", scratch.path("dangling")).unwrap();
    assert_eq!(scratch.write("/workspace/first", b"1").unwrap()["created"], false);
    assert_eq!(scratch.text("folder/target"), "1");
    scratch.write("/workspace/absolute", b"2").unwrap();
    assert_eq!(scratch.text("folder/target"), "2");
    assert_eq!(scratch.write("/workspace/dangling", b"3").unwrap()["created"], true);
    assert_eq!(scratch.text("folder/new"), "3");
    for link in ["first", "folder/second", "absolute", "dangling"] {
        assert!(scratch.path(link).is_symlink());
    }
    scratch.assert_clean();
}

#[test]
fn nothing_is_written_outside() {
    let scratch = Scratch::new();
    symlink("../beside/file", scratch.path("out")).unwrap();
    symlink("../beside", scratch.path("folder")).unwrap();
    symlink(scratch.beside().join("file"), scratch.path("absolute")).unwrap();
    symlink("loop", scratch.path("loop")).unwrap();
    for path in ["out", "folder/file", "folder/new/file", "absolute", "../beside/file", "new/../../beside/file"] {
        assert_code(scratch.write(&format!("/workspace/{path}"), b"x"), Code::Outside);
    }
    assert_code(scratch.write("/tmp/file", b"x"), Code::Outside);
    assert_code(scratch.write("/workspace/loop", b"x"), Code::NotFound);
    scratch.assert_clean();
}

#[test]
fn only_regular_files_are_replaced() {
    let scratch = Scratch::new();
    scratch.put("file", "");
    fs::create_dir(scratch.path("folder")).unwrap();
    mkfifo(&scratch.path("pipe"), Mode::S_IRWXU).unwrap();
    for path in ["/workspace", "/workspace/folder", "/workspace/folder/", "/workspace/folder/..", "/workspace/folder/."]
    {
        assert_code(scratch.write(path, b"x"), Code::IsADirectory);
    }
    assert_code(scratch.write("/workspace/pipe", b"x"), Code::NotAFile);
    assert_code(scratch.write("/workspace/file/below", b"x"), Code::NotADirectory);
    scratch.assert_clean();
}

#[test]
fn input_that_breaks_off_changes_nothing() {
    let scratch = Scratch::new();
    scratch.put("old", "old");
    for path in ["/workspace/old", "/workspace/new"] {
        for ends in [0, 1] {
            let mut stdin = Breaking { bytes: &[b'x'; 600_000], ends };
            assert_code(scratch.write_from(path, &mut stdin), Code::Io);
        }
    }
    assert_eq!(scratch.text("old"), "old");
    assert!(!scratch.path("new").exists());
    scratch.assert_clean();
}
