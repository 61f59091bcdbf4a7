//! An archive on its way out, in large pieces.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

use super::header::{special, Member, BLOCK};
use crate::tools::{Outcome, ToolError};

const BUFFER_BYTES: usize = 256 << 10;

pub struct Stream<'a> {
    out: &'a mut dyn Write,
    buffer: Box<[u8]>,
    used: usize,
}

impl<'a> Stream<'a> {
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, buffer: vec![0; BUFFER_BYTES].into(), used: 0 }
    }

    /// Writes the headers of a member; the content of a file has to follow.
    pub fn member(&mut self, member: &Member) -> Outcome {
        self.add(&member.blocks())
    }

    /// Writes the name of something that has no place in the archive: a pipe, a device or a socket.
    pub fn name(&mut self, name: &[u8]) -> Outcome {
        self.add(&special(name))
    }

    /// Writes as much of a file as its header says, and zeroes for what is missing of it by now.
    pub fn content(&mut self, mut file: &File, size: u64, failed: impl Fn(io::Error) -> ToolError) -> Outcome {
        let mut rest = size;
        while rest > 0 {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let room = &mut self.buffer[self.used..];
            let most = room.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let length = match file.read(&mut room[..most]) {
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                length => length.map_err(&failed)?,
            };
            self.used += length;
            rest -= length as u64;
        }
        self.zeroes(rest)?;
        self.zeroes(size.wrapping_neg() % BLOCK as u64)
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Outcome {
        self.zeroes(2 * BLOCK as u64)?;
        self.flush()
    }

    fn zeroes(&mut self, mut count: u64) -> Outcome {
        while count > 0 {
            let length = usize::try_from(count).unwrap_or(usize::MAX).min(BLOCK);
            self.add(&[0; BLOCK][..length])?;
            count -= length as u64;
        }
        Ok(())
    }

    fn add(&mut self, mut bytes: &[u8]) -> Outcome {
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.flush()?;
            }
            let length = bytes.len().min(self.buffer.len() - self.used);
            self.buffer[self.used..self.used + length].copy_from_slice(&bytes[..length]);
            self.used += length;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn flush(&mut self) -> Outcome {
        self.out.write_all(&self.buffer[..self.used])?;
        self.used = 0;
        Ok(())
    }
}
