//! Reading a file, or a part of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::fstat;
use serde::Serialize;

use super::list::mtime_ns;
use super::paths::{failure, Named};
use super::{Code, Outcome, Place, ToolError};

const BUFFER_BYTES: u64 = 256 << 10;

#[derive(Serialize)]
struct Head {
    size: i64,
    mode: u32,
    mtime_ns: i64,
}

/// Writes a line about the whole file, then at most `limit` bytes of it from `offset` on. Links that stay inside are
/// followed.
pub fn run(
    place: &Place,
    path: &str,
    offset: u64,
    limit: u64,
    _stdin: &mut dyn Read,
    stdout: &mut dyn Write,
) -> Outcome {
    let named = Named::parse(path)?;
    let (mut file, head) = open(place, &named)?;
    serde_json::to_writer(&mut *stdout, &head).map_err(std::io::Error::from)?;
    stdout.write_all(b"\n")?;
    if i64::try_from(offset).map_or(true, |offset| offset >= head.size) {
        return Ok(());
    }
    let failed = |error| failure(&named.shown, error);
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut buffer = vec![0; BUFFER_BYTES.min(limit) as usize];
    let mut rest = limit;
    while rest > 0 {
        let most = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let length = file.read(&mut buffer[..most]).map_err(failed)?;
        if length == 0 {
            break;
        }
        stdout.write_all(&buffer[..length])?;
        rest -= length as u64;
    }
    Ok(())
}

fn open(place: &Place, named: &Named) -> Result<(File, Head), ToolError> {
    // Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
    let opened = named.open(place, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    let stat = fstat(&opened).map_err(|errno| failure(&named.shown, errno))?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(ToolError::new(Code::IsADirectory, format!("{} is a folder", named.shown))),
        _ => return Err(ToolError::new(Code::NotAFile, format!("{} is not a regular file", named.shown))),
    }
    let head = Head { size: stat.st_size, mode: stat.st_mode & 0o7777, mtime_ns: mtime_ns(&stat) };
    Ok((opened.into(), head))
}
