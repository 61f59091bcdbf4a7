//! Memory that the guest can do without.

use std::fs;
use std::io::Write;

use serde::Serialize;

use super::{Code, Outcome, ToolError};

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const MEMORY: &str = "/proc/meminfo";
/// What is cached of files' contents; names and inodes are small, and dear to read again.
const CONTENTS: &str = "1";

#[derive(Serialize)]
struct Spare {
    free_bytes: u64,
}

/// Lets go of what is cached of files, is written out and not mapped by any process, and tells how much memory is free
/// beyond what the kernel keeps free for itself (its watermarks, 60 MiB of 1 GiB): a guest that gives up some of that
/// only fights for memory.
pub fn run(stdout: &mut dyn Write) -> Outcome {
    fs::write(DROP_CACHES, CONTENTS).map_err(|error| ToolError::about(DROP_CACHES, &error))?;
    let told = fs::read_to_string(MEMORY).map_err(|error| ToolError::about(MEMORY, &error))?;
    let free_bytes = spare(&told).ok_or_else(|| ToolError::new(Code::Io, format!("{MEMORY} tells no amounts")))?;
    serde_json::to_writer(&mut *stdout, &Spare { free_bytes }).map_err(std::io::Error::from)?;
    Ok(stdout.write_all(b"\n")?)
}

/// What is available counts what could be dropped of what is in use, too; source: `proc_meminfo(5)`.
fn spare(meminfo: &str) -> Option<u64> {
    Some(amount(meminfo, "MemFree:")?.min(amount(meminfo, "MemAvailable:")?))
}

/// In bytes.
fn amount(meminfo: &str, name: &str) -> Option<u64> {
    let words = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    words.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_keeps_for_itself_is_not_spare() {
        assert_eq!(spare("MemFree:   940644 kB\nMemAvailable:     876536 kB\n"), Some(876_536 << 10));
        assert_eq!(spare("MemFree:  100 kB\nMemAvailable:  200 kB\n"), Some(100 << 10));
    }

    #[test]
    fn an_amount_that_is_not_told_is_not_made_up() {
        assert_eq!(spare("MemFree:  100 kB\n"), None);
        assert_eq!(spare("MemFree:  100 kB\nMemAvailable:  much kB\n"), None);
    }
}
