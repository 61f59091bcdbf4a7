//! Trees of files for the tests of `diff` and `patch`: random ones, and what is in them.

// Not every test uses all of it.
#![allow(dead_code)]

pub mod overlay;
pub mod random;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder that is removed in the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pyro-trees-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What git would see of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    File { content: Vec<u8>, executable: bool },
    Link(Vec<u8>),
}

pub type Tree = BTreeMap<Vec<u8>, Node>;

pub fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// All files and links below a folder but for those of git itself.
pub fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if path.file_name() == Some(OsStr::new(".git")) {
                continue;
            } else if metadata.is_dir() {
                pending.push(path);
            } else if metadata.is_symlink() {
                tree.insert(name, Node::Link(fs::read_link(&path).unwrap().into_os_string().into_vec()));
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                tree.insert(name, Node::File { content: fs::read(&path).unwrap(), executable });
            }
        }
    }
    tree
}

/// Names the first difference of two trees, which is more than a comparison of all contents shows.
pub fn assert_same(found: &Tree, wanted: &Tree, what: &str) {
    for name in found.keys().chain(wanted.keys()) {
        if found.get(name) != wanted.get(name) {
            let (found, wanted) = (found.get(name), wanted.get(name));
            panic!("{what}: {} is\n{found:?}\ninstead of\n{wanted:?}", String::from_utf8_lossy(name));
        }
    }
}

pub fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
}

/// Runs git without anybody's configuration. Returns what it says on stdout and on stderr, or only the latter if it
/// fails.
pub fn git(folder: &Path, words: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut command = Command::new("git");
    command.args(words).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    run(command, input, &[0, 1])
}

pub fn git_apply(folder: &Path, words: &[&str], patch: &[u8]) -> Result<(), String> {
    let words = [&["apply", "--whitespace=nowarn"], words].concat();
    let mut command = Command::new("git");
    command.args(words).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap());
    run(command, patch, &[0]).map(drop)
}

/// Runs a program that is done with its input before it says much.
pub fn run(mut command: Command, input: &[u8], good: &[i32]) -> Result<Vec<u8>, String> {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a program");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    if output.status.code().is_some_and(|code| good.contains(&code)) {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
