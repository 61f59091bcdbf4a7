//! Giving back the memory of the initramfs.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::console::{Failure, Result};

/// Deletes everything in the initial root but the mount points in it.
///
/// The running agent keeps its own pages although its file goes.
pub fn free() -> Result<()> {
    delete_contents().map_err(|error| Failure::new("delete the initramfs", error))
}

fn delete_contents() -> io::Result<()> {
    let device = fs::metadata("/")?.dev();
    for entry in fs::read_dir("/")? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
