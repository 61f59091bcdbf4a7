//! Reading files.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pyro_agent::tools::Code;
use serde_json::json;

use crate::support::{assert_code, set_mtime, Dice, Scratch};

#[test]
fn a_file_is_read_in_parts() {
    let scratch = Scratch::new();
    scratch.put("file", "0123456789");
    fs::set_permissions(scratch.path("file"), fs::Permissions::from_mode(0o640)).unwrap();
    set_mtime(&scratch.path("file"), -1, 999_999_999);
    let head = json!({"size": 10, "mode": 0o640, "mtime_ns": -1});
    let read = |offset, limit| scratch.read("/workspace/file", offset, limit).unwrap();
    assert_eq!(read(0, 100), (head.clone(), b"0123456789".to_vec()));
    assert_eq!(read(3, 4), (head.clone(), b"3456".to_vec()));
    assert_eq!(read(8, i64::MAX as u64), (head.clone(), b"89".to_vec()));
    assert_eq!(read(10, 1), (head.clone(), Vec::new()));
    assert_eq!(read(i64::MAX as u64, 1), (head.clone(), Vec::new()));
    assert_eq!(read(0, 0), (head, Vec::new()));
}

#[test]
fn a_large_file_comes_as_it_is() {
    let scratch = Scratch::new();
    let content = Dice(1).bytes(1_000_001);
    fs::write(scratch.path("file"), &content).unwrap();
    assert_eq!(scratch.read("/workspace/file", 0, 1 << 40).unwrap().1, content);
    assert_eq!(scratch.read("/workspace/file", 7, 700_000).unwrap().1, content[7..700_007]);
}

#[test]
fn links_are_followed_inside_only() {
    let scratch = Scratch::new();
    scratch.put("folder/file", "inside");
    symlink("folder/../folder/file", scratch.path("good")).unwrap();
    symlink("../beside/secret", scratch.path("bad")).unwrap();
    symlink("/etc/passwd", scratch.path("absolute")).unwrap();
    symlink("loop", scratch.path("loop")).unwrap();
    fs::write(scratch.beside().join("secret"), "secret").unwrap();
    assert_eq!(scratch.read("/workspace/good", 0, 10).unwrap().1, b"inside");
    for path in ["/workspace/bad", "/workspace/absolute", "/workspace/../beside/secret", "/etc/passwd", "/workspace\0"]
    {
        assert_code(scratch.read(path, 0, 10), Code::Outside);
    }
    assert_code(scratch.read("/workspace/loop", 0, 10), Code::NotFound);
}

#[test]
fn only_regular_files_are_read() {
    let scratch = Scratch::new();
    scratch.put("file", "");
    mkfifo(&scratch.path("pipe"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(scratch.path("socket")).unwrap();
    assert_code(scratch.read("/workspace", 0, 10), Code::IsADirectory);
    assert_code(scratch.read("/workspace/pipe", 0, 10), Code::NotAFile);
    assert_code(scratch.read("/workspace/socket", 0, 10), Code::NotAFile);
    assert_code(scratch.read("/workspace/file/below", 0, 10), Code::NotADirectory);
    assert_code(scratch.read("/workspace/missing", 0, 10), Code::NotFound);
    assert_code(scratch.read(&format!("/workspace/{}", "x".repeat(300)), 0, 10), Code::NotFound);
}
