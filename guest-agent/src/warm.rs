//! Reading what nearly every command needs, while the guest still waits: what is in memory then is in the memory of
//! every machine that begins as its copy.
//!
//! It stays there: what a process has mapped is not dropped with other cached files when a guest gives memory back, and
//! what is dropped and read again is in the memory of all copies no more.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Component, Path, PathBuf};

use nix::sys::mman::{mmap, MapFlags, ProtFlags};

/// The shell, and what it and most programs are linked with.
const FILES: [&str; 4] = ["/bin/sh", "/bin/bash", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"];
const MOST_LINKS: usize = 8;

/// Reads them below `root`, where they are there, and holds them for as long as this process lives.
pub fn hold_common_files(root: &Path) {
    for file in FILES {
        let _ = hold(&resolve(root, Path::new(file)));
    }
}

fn hold(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).ok().and_then(NonZeroUsize::new);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE;
    // SAFETY: a new mapping replaces nothing, and nobody ever looks at this one.
    unsafe { mmap(None, length, ProtFlags::PROT_READ, flags, &file, 0) }?;
    Ok(())
}

/// Where a path leads whose root, and that of the links on its way, is `root`.
fn resolve(root: &Path, path: &Path) -> PathBuf {
    let mut found = root.to_path_buf();
    let mut links = 0;
    let mut left: Vec<_> = names(path).rev().collect();
    while let Some(name) = left.pop() {
        let next = found.join(&name);
        match fs::read_link(&next) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                if target.is_absolute() {
                    found = root.to_path_buf();
                }
                left.extend(names(&target).rev());
            }
            _ => found = next,
        }
    }
    found
}

/// What a path goes through; steps upwards are not among it, and not in what a distribution links its libraries with.
fn names(path: &Path) -> impl DoubleEndedIterator<Item = PathBuf> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(PathBuf::from(name)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_below_the_root() {
        let root = std::env::temp_dir().join(format!("pyro-agent-warm-{}", std::process::id()));
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/lib", root.join("lib64")).unwrap();
        symlink("c-1.so", root.join("usr/lib/c.so")).unwrap();
        symlink("round", root.join("round")).unwrap();
        assert_eq!(resolve(&root, Path::new("/lib64/c.so")), root.join("usr/lib/c-1.so"));
        assert_eq!(resolve(&root, Path::new("/missing/file")), root.join("missing/file"));
        assert_eq!(resolve(&root, Path::new("/round")), root.join("round"));
        fs::remove_dir_all(&root).unwrap();
    }
}
