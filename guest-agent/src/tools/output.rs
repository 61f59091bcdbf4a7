//! Reading the log of a kept command in pages, or the lines of it that match.

use std::io::Write;
use std::os::fd::AsFd;

use regex_lite::Regex;
use serde::Serialize;

use super::{Code, Outcome, Place, ToolError};
use crate::kept::Known;
use crate::log::Log;

/// Most that one page holds, in bytes.
const MOST_PAGE: u64 = 1 << 20;

/// Most that is searched for one page, in bytes.
const MOST_SEARCHED: u64 = 8 << 20;

const CHUNK: usize = 256 * 1024;

/// What is asked for; offset and limit in bytes of the log.
pub struct Page<'a> {
    pub id: &'a str,
    pub offset: u64,
    pub limit: u64,
    pub grep: Option<&'a str>,
}

/// What stands before the bytes.
#[derive(Serialize)]
struct Header {
    offset: u64,
    next_offset: Option<u64>,
    total_bytes: u64,
    running: bool,
}

/// Bytes of a log, where they begin, and where to read on.
struct Found {
    bytes: Vec<u8>,
    offset: u64,
    next: u64,
}

pub fn run(place: &Place, known: Option<&Known<'_>>, page: &Page<'_>, stdout: &mut dyn Write) -> Outcome {
    let log = open(place, known, page.id)?;
    let limit = page.limit.min(MOST_PAGE) as usize;
    let found = match page.grep {
        None => read(&log, page.offset, limit),
        Some(pattern) => search(&log, page.offset, limit, &Pattern::compile(pattern)?),
    };
    let header = Header {
        offset: found.offset,
        next_offset: (found.next < log.total()).then_some(found.next),
        total_bytes: log.total(),
        running: known.is_some_and(|known| known.running),
    };
    let mut line = serde_json::to_vec(&header).expect("numbers always have a JSON form");
    line.push(b'\n');
    stdout.write_all(&line)?;
    Ok(stdout.write_all(&found.bytes)?)
}

fn open(place: &Place, known: Option<&Known<'_>>, id: &str) -> Result<Log, ToolError> {
    let unknown = || ToolError::new(Code::UnknownCommand, format!("there is no output of a command {id}"));
    let folder = place.commands.as_ref().ok_or_else(unknown)?.as_fd();
    match known {
        // The descriptor that the agent may have of it was closed in this process.
        Some(known) => Ok(known.log.reopened(folder, id)),
        None => Log::open(folder, id).map_err(|_| unknown()),
    }
}

/// What lines are searched for. Plain text, which is the usual thing, is found far faster as such.
enum Pattern {
    Plain(String),
    Regex(Regex),
}

impl Pattern {
    fn compile(pattern: &str) -> Result<Self, ToolError> {
        if regex_lite::escape(pattern) == pattern {
            return Ok(Self::Plain(pattern.to_owned()));
        }
        let bad = |error| ToolError::new(Code::BadPattern, format!("{pattern}: {error}"));
        Regex::new(pattern).map(Self::Regex).map_err(bad)
    }

    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Plain(text) => line.contains(text),
            Self::Regex(regex) => regex.is_match(line),
        }
    }
}

/// Reads from `offset` on, past what is lost. What the command overwrites meanwhile counts as lost, too.
fn read_some(log: &Log, offset: &mut u64, buffer: &mut [u8]) -> usize {
    loop {
        let count = log.read(offset, buffer);
        if count == 0 || !log.has_lost(*offset) {
            return count;
        }
        *offset += count as u64;
    }
}

/// As much as there is in one piece.
fn read(log: &Log, mut offset: u64, limit: usize) -> Found {
    let mut bytes = vec![0; limit];
    let mut filled = 0;
    let mut next = offset;
    while filled < limit {
        let mut at = next;
        let count = read_some(log, &mut at, &mut bytes[filled..]);
        if filled == 0 {
            (offset, next) = (at, at);
        }
        if count == 0 || at != next {
            break;
        }
        filled += count;
        next += count as u64;
    }
    bytes.truncate(filled);
    Found { bytes, offset, next }
}

/// The lines that match, until there are enough of them or enough was searched.
struct Search<'a> {
    pattern: &'a Pattern,
    limit: usize,
    bytes: Vec<u8>,
    /// The beginning of a line whose end is yet to be read, and where it begins.
    line: Vec<u8>,
    begin: u64,
}

fn search(log: &Log, offset: u64, limit: usize, pattern: &Pattern) -> Found {
    let mut search = Search { pattern, limit, bytes: Vec::new(), line: Vec::new(), begin: offset };
    let mut chunk = vec![0; CHUNK];
    let mut next = offset;
    let mut first = None;
    let mut searched = 0;
    while searched < MOST_SEARCHED {
        let mut at = next;
        let count = read_some(log, &mut at, &mut chunk);
        let first = *first.get_or_insert(at);
        if at != next {
            // A line does not go on behind something that is lost.
            if let Some(full) = search.end_line(next) {
                return search.found(first, full);
            }
            search.begin = at;
        }
        if count == 0 {
            let next = search.end_line(at).unwrap_or(at);
            return search.found(first, next);
        }
        if let Some(full) = search.take(&chunk[..count], at) {
            return search.found(first, full);
        }
        next = at + count as u64;
        searched += count as u64;
    }
    if search.begin == first.unwrap_or(offset) {
        // One line, all of it: there is no end to wait for.
        search.end_line(next);
    }
    let begin = search.begin;
    search.found(first.unwrap_or(offset), begin)
}

impl Search<'_> {
    fn found(self, offset: u64, next: u64) -> Found {
        Found { bytes: self.bytes, offset, next }
    }

    /// Takes what was read at an offset. Returns where to go on where there was no more room for a line.
    fn take(&mut self, bytes: &[u8], offset: u64) -> Option<u64> {
        let mut done = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            done += piece.len();
            self.lengthen(piece);
            if piece.ends_with(b"\n") {
                if let Some(full) = self.end_line(offset + done as u64) {
                    return Some(full);
                }
            }
        }
        None
    }

    /// Of a line beyond all bounds only the beginning counts.
    fn lengthen(&mut self, piece: &[u8]) {
        let room = (MOST_PAGE as usize).saturating_sub(self.line.len());
        self.line.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    /// The line goes no further than `end`. Returns where it began if it is wanted and there is no room for it.
    fn end_line(&mut self, end: u64) -> Option<u64> {
        let line = std::mem::take(&mut self.line);
        let begin = std::mem::replace(&mut self.begin, end);
        let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line));
        let text = text.strip_suffix('\r').unwrap_or(&text);
        if line.is_empty() || !self.pattern.is_in(text) {
            return None;
        }
        let room = self.limit - self.bytes.len();
        if line.len() > room && !self.bytes.is_empty() {
            return Some(begin);
        }
        self.bytes.extend_from_slice(&line[..line.len().min(room)]);
        // Without any room there is nothing to go on for.
        (self.bytes.len() >= self.limit).then_some(end)
    }
}
