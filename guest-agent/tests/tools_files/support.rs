//! A folder that stands for `/workspace`, and what to compare and to make in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::stat::{utimensat, UtimensatFlags};
use nix::sys::time::TimeSpec;
use pyro_agent::tools::{list, pack, read, unpack, write, Code, Outcome, Place, ToolError};
use serde_json::Value;

pub type Answer = Result<Vec<u8>, ToolError>;

/// The workspace and a folder beside it, which nothing may reach. Both go with the value.
pub struct Scratch {
    base: PathBuf,
}

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let base = std::env::temp_dir().join(format!("pyro-tools-{}-{number}", std::process::id()));
        fs::create_dir_all(base.join("workspace")).unwrap();
        fs::create_dir(base.join("beside")).unwrap();
        Self { base }
    }

    /// A path in the workspace.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.base.join("workspace").join(below)
    }

    pub fn beside(&self) -> PathBuf {
        self.base.join("beside")
    }

    pub fn place(&self) -> Place {
        Place::open(&self.path(""), None, None, None).unwrap()
    }

    pub fn put(&self, below: &str, content: &str) {
        fs::create_dir_all(self.path(below).parent().unwrap()).unwrap();
        fs::write(self.path(below), content).unwrap();
    }

    pub fn text(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }

    pub fn list(&self, path: &str, recursive: bool, limit: u64) -> Result<Vec<Value>, ToolError> {
        let answer = answer(b"", |stdin, stdout| list::run(&self.place(), path, recursive, limit, stdin, stdout))?;
        Ok(answer.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect())
    }

    /// What is said about the file, and its bytes.
    pub fn read(&self, path: &str, offset: u64, limit: u64) -> Result<(Value, Vec<u8>), ToolError> {
        let answer = answer(b"", |stdin, stdout| read::run(&self.place(), path, offset, limit, stdin, stdout))?;
        let end = answer.iter().position(|byte| *byte == b'\n').unwrap();
        Ok((serde_json::from_slice(&answer[..end]).unwrap(), answer[end + 1..].to_vec()))
    }

    pub fn write(&self, path: &str, content: &[u8]) -> Result<Value, ToolError> {
        self.write_from(path, &mut &content[..])
    }

    pub fn write_from(&self, path: &str, mut stdin: &mut dyn Read) -> Result<Value, ToolError> {
        let mut stdout = Vec::new();
        write::run(&self.place(), path, &mut stdin, &mut stdout)?;
        Ok(serde_json::from_slice(&stdout).unwrap())
    }

    pub fn unpack(&self, path: &str, archive: &[u8]) -> Result<Value, ToolError> {
        self.unpack_from(path, &mut &archive[..])
    }

    pub fn unpack_from(&self, path: &str, mut stdin: &mut dyn Read) -> Result<Value, ToolError> {
        let mut stdout = Vec::new();
        unpack::run(&self.place(), path, &mut stdin, &mut stdout)?;
        Ok(serde_json::from_slice(&stdout).unwrap())
    }

    pub fn pack(&self, path: &str) -> Answer {
        answer(b"", |stdin, stdout| pack::run(&self.place(), path, stdin, stdout))
    }

    pub fn snapshot(&self) -> BTreeMap<PathBuf, Seen> {
        snapshot(&self.path(""))
    }

    /// That nothing came where nothing may come, and that no temporary file was left behind.
    pub fn assert_clean(&self) {
        assert_eq!(fs::read_dir(self.beside()).unwrap().count(), 0, "something got out of the workspace");
        let mut base = fs::read_dir(&self.base).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        base.sort();
        assert_eq!(base, ["beside", "workspace"]);
        for path in self.snapshot().keys() {
            let name = path.file_name().unwrap_or_default().as_bytes();
            assert!(!name.starts_with(b".pyro"), "{} was left behind", path.display());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test may have left folders that their owner may not change.
        let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(&self.base).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.base);
    }
}

fn answer(mut stdin: &[u8], run: impl FnOnce(&mut dyn Read, &mut dyn Write) -> Outcome) -> Answer {
    let mut stdout = Vec::new();
    run(&mut stdin, &mut stdout)?;
    Ok(stdout)
}

#[track_caller]
pub fn assert_code<T: std::fmt::Debug>(outcome: Result<T, ToolError>, code: Code) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.code, code, "{}", error.message);
    error.message
}

/// What can be told of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    /// The content, or where a link leads.
    pub content: Vec<u8>,
    pub names: u64,
}

/// Everything in a folder and the folder itself, by relative path.
pub fn snapshot(top: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        seen.insert(folder.clone(), look(&top.join(&folder)));
        for entry in fs::read_dir(top.join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if top.join(&path).symlink_metadata().unwrap().is_dir() {
                folders.push(path);
            } else {
                seen.insert(path.clone(), look(&top.join(&path)));
            }
        }
    }
    seen
}

fn look(path: &Path) -> Seen {
    let metadata = path.symlink_metadata().unwrap();
    let content = match metadata.file_type() {
        kind if kind.is_symlink() => fs::read_link(path).unwrap().into_os_string().into_vec(),
        kind if kind.is_file() => fs::read(path).unwrap(),
        _ => Vec::new(),
    };
    Seen {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        names: if metadata.is_dir() { 0 } else { metadata.nlink() },
    }
}

pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = TimeSpec::new(seconds, nanoseconds);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Numbers that look random and are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

pub fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Gives some bytes, then perhaps an end, and then fails: a channel that breaks, or a tool that is cancelled.
pub struct Breaking<'a> {
    pub bytes: &'a [u8],
    pub ends: usize,
}

impl<'a> Breaking<'a> {
    pub fn after(bytes: &'a [u8]) -> Self {
        Self { bytes, ends: 0 }
    }
}

impl Read for Breaking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.bytes.read(buffer)? {
            0 if self.ends > 0 => {
                self.ends -= 1;
                Ok(0)
            }
            0 => Err(std::io::Error::other("cancelled")),
            length => Ok(length),
        }
    }
}

/// Changes a file when the first bytes come out, and keeps them all.
pub struct Meddling<'a> {
    pub file: &'a File,
    pub length: u64,
    pub taken: Vec<u8>,
}

impl Write for Meddling<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.taken.is_empty() {
            self.file.set_len(self.length)?;
        }
        self.taken.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
