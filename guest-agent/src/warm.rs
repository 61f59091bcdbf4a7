//! Reading what nearly every command needs, while the guest still waits: what is in memory then is in the memory of
//! every machine that begins as its copy.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

/// The shell, and what it and most programs are linked with.
const FILES: [&str; 4] = ["/bin/sh", "/bin/bash", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"];
const MOST_LINKS: usize = 8;

/// Reads them below `root`, where they are there.
pub fn read_common_files(root: &Path) {
    for file in FILES {
        let _ = read(&resolve(root, Path::new(file)));
    }
}

fn read(path: &Path) -> io::Result<u64> {
    io::copy(&mut File::open(path)?, &mut io::sink())
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
