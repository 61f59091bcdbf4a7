//! The entries of a tar archive, read from a stream.

use std::io::{ErrorKind, Read};

use super::extended::Extended;
use super::header::{broken, parse, Entry, Header, Kind, More, BLOCK};
use crate::tools::{Outcome, ToolError};

const BUFFER_BYTES: usize = 256 << 10;

/// Most that a name, a link target or the pax records of an entry may take, in bytes.
const MAX_MORE_BYTES: u64 = 1 << 20;

/// An archive as it comes.
pub struct Archive<'a> {
    input: &'a mut dyn Read,
    buffer: Box<[u8]>,
    /// The part of the buffer that is still to be used.
    start: usize,
    end: usize,
    /// What is left of the present entry, and of the zeroes that fill up its last block.
    content: u64,
    padding: u64,
    /// What the pax records for the rest of the archive say.
    global: Extended,
}

impl<'a> Archive<'a> {
    pub fn new(input: &'a mut dyn Read) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into();
        Self { input, buffer, start: 0, end: 0, content: 0, padding: 0, global: Extended::default() }
    }

    /// The next entry; what is left of the one before is passed over. `None` at the end of the archive, which is two
    /// blocks of zeroes: an archive that only stops is one that was cut off.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ToolError> {
        let mut extended = self.global.clone();
        loop {
            self.content(&mut |_| Ok(()))?;
            self.pass(self.padding)?;
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                return match self.block()?.iter().all(|byte| *byte == 0) {
                    true => Ok(None),
                    false => Err(broken("the archive has an empty block in its middle")),
                };
            }
            match parse(&block)? {
                Header::More(more, size) => self.take_more(more, size, &mut extended)?,
                Header::Entry(mut entry) => {
                    extended.complete(&mut entry);
                    self.expect(entry.size);
                    // Before ustar, only the slash told a folder. The name is known only now.
                    if entry.kind == Kind::File && entry.name.ends_with(b"/") {
                        (entry.kind, entry.size) = (Kind::Folder, 0);
                    }
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Hands out what is left of the present entry's content, in pieces.
    pub fn content(&mut self, take: &mut dyn FnMut(&[u8]) -> Outcome) -> Outcome {
        while self.content > 0 {
            self.want(1)?;
            let most = usize::try_from(self.content).unwrap_or(usize::MAX);
            let length = most.min(self.end - self.start);
            take(&self.buffer[self.start..self.start + length])?;
            self.start += length;
            self.content -= length as u64;
        }
        Ok(())
    }

    /// Reads to the end of the stream: what sends the archive fills up its last record.
    pub fn drain(&mut self) -> Outcome {
        loop {
            self.start = self.end;
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }

    fn take_more(&mut self, more: More, size: u64, extended: &mut Extended) -> Outcome {
        if size > MAX_MORE_BYTES {
            return Err(broken(format!("the archive has a name or pax header of {size} bytes")));
        }
        self.expect(size);
        let mut bytes = Vec::new();
        self.content(&mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        match more {
            More::Name => extended.set_name(&bytes),
            More::Link => extended.set_link(&bytes),
            More::Pax => extended.add(&bytes)?,
            More::GlobalPax => {
                self.global.add(&bytes)?;
                extended.add(&bytes)?;
            }
        }
        Ok(())
    }

    fn expect(&mut self, size: u64) {
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn pass(&mut self, length: u64) -> Outcome {
        self.padding = 0;
        self.content = length;
        self.content(&mut |_| Ok(()))
    }

    fn block(&mut self) -> Result<[u8; BLOCK], ToolError> {
        self.want(BLOCK)?;
        let mut block = [0; BLOCK];
        block.copy_from_slice(&self.buffer[self.start..self.start + BLOCK]);
        self.start += BLOCK;
        Ok(block)
    }

    /// Makes sure that so many bytes (no more than a block) are in the buffer.
    fn want(&mut self, length: usize) -> Outcome {
        if self.end - self.start >= length {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        // Filled up as far as it goes, so that most files are written with one call.
        while self.end < self.buffer.len() && self.fill()? > 0 {}
        if self.end < length {
            return Err(broken("the archive is cut off"));
        }
        Ok(())
    }

    /// Reads once, behind what is in the buffer; 0 at the end of the stream.
    fn fill(&mut self) -> Result<usize, ToolError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                length => {
                    let length = length?;
                    self.end += length;
                    return Ok(length);
                }
            }
        }
    }
}
