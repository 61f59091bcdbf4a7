//! Mounting, with errors that say what was mounted where.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{mount, MsFlags};

use crate::console::{Failure, Result};

/// One file system to mount.
pub struct Mount<'a> {
    pub source: &'a Path,
    pub kind: &'a str,
    pub target: &'a Path,
    pub flags: MsFlags,
    pub data: &'a str,
}

impl<'a> Mount<'a> {
    /// A file system of the kernel's own, such as `proc`.
    pub fn kernel(kind: &'a str, target: &'a str) -> Self {
        Self { source: Path::new(kind), kind, target: Path::new(target), flags: MsFlags::empty(), data: "" }
    }

    /// A file system on a block device.
    pub fn device(source: &'a Path, kind: &'a str, target: &'a Path) -> Self {
        Self { source, kind, target, flags: MsFlags::empty(), data: "" }
    }

    pub fn flags(self, flags: MsFlags) -> Self {
        Self { flags, ..self }
    }

    pub fn data(self, data: &'a str) -> Self {
        Self { data, ..self }
    }

    /// Mounts it, making the directory first where it is missing.
    pub fn apply(&self) -> Result<()> {
        make_directory(self.target)?;
        mount(Some(self.source), self.target, Some(self.kind), self.flags, Some(self.data)).map_err(|errno| {
            let target = self.target.display();
            Failure::new(format!("mount {} ({}) on {target}", self.source.display(), self.kind), errno)
        })
    }
}

/// Makes a directory with its parents; something else in its place, or in theirs, gives way, because nothing could be
/// mounted on it.
pub fn make_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    make_here(path).map_err(|error| Failure::new(format!("make directory {}", path.display()), error))
}

fn make_here(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_directory_replaces_a_file_and_a_dangling_link() {
        let base = std::env::temp_dir().join(format!("pyro-agent-mount-{}", std::process::id()));
        make_directory(&base.join("a/b")).unwrap();
        fs::write(base.join("file"), "x").unwrap();
        symlink("nowhere", base.join("dangling")).unwrap();
        symlink("a", base.join("link")).unwrap();
        for name in ["file", "dangling", "link"] {
            make_directory(&base.join(name).join("below")).unwrap();
            make_directory(&base.join(name)).unwrap();
            assert!(base.join(name).is_dir());
        }
        assert!(base.join("link").is_symlink(), "a link to a directory is as good as a directory");
        fs::remove_dir_all(&base).unwrap();
    }
}
