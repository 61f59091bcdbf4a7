//! Memory that the guest can do without.

use std::fs;
use std::io::Write;

use nix::errno::Errno;
use nix::sys::sysinfo::sysinfo;
use serde::Serialize;

use super::{Outcome, ToolError};

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// What is cached of files' contents; names and inodes are small, and dear to read again.
const CONTENTS: &str = "1";

#[derive(Serialize)]
struct Spare {
    free_bytes: u64,
}

/// Lets go of what is cached of files, is written out and not mapped by any process, and tells how much memory is free.
pub fn run(stdout: &mut dyn Write) -> Outcome {
    fs::write(DROP_CACHES, CONTENTS).map_err(|error| ToolError::about(DROP_CACHES, &error))?;
    let free_bytes = sysinfo().map_err(|errno: Errno| ToolError::from(errno))?.ram_unused();
    serde_json::to_writer(&mut *stdout, &Spare { free_bytes }).map_err(std::io::Error::from)?;
    Ok(stdout.write_all(b"\n")?)
}
