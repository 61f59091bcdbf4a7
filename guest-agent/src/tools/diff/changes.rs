//! From files that were there and files that are there to what happened to them.

use std::io::{self, Read};

use super::layer::Layer;
use super::walk::{Found, Item, Side};
use crate::tools::text::MAX_SHOWN_BYTES;

/// Both layers.
#[derive(Clone, Copy)]
pub struct Layers<'a> {
    pub lower: Layer<'a>,
    pub upper: Layer<'a>,
}

/// One difference: a file that is new, that is gone, or that is another one than before. Its old path is `old.path`.
#[derive(Debug)]
pub struct Change {
    /// In the workspace; that of the deleted file where there is no new one.
    pub path: Vec<u8>,
    pub old: Option<Item>,
    pub new: Option<Item>,
    /// How much of a renamed file is what it was, in percent.
    pub similarity: Option<u8>,
    /// Only the mode is another one.
    pub only_mode: bool,
}

impl Change {
    /// What happened, in a word.
    pub fn name(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "added",
            (_, None) => "deleted",
            _ if self.similarity.is_some() => "renamed",
            (Some(old), Some(new)) if old.is_symlink() != new.is_symlink() => "type",
            _ if self.only_mode => "mode",
            _ => "modified",
        }
    }
}

/// The content of an item as git compares it.
pub enum Content {
    Bytes(Vec<u8>),
    TooLarge,
}

impl Layers<'_> {
    fn side(&self, side: Side) -> Layer<'_> {
        match side {
            Side::Lower => self.lower,
            Side::Upper => self.upper,
        }
    }

    /// Opens the content of an item for reading: a file's, or where a link leads. `None` if it has gone.
    pub fn open(&self, item: &Item) -> io::Result<Option<Box<dyn Read>>> {
        let layer = self.side(item.side);
        if item.is_symlink() {
            let target = layer.target(&item.path)?;
            return Ok(target.map(|target| Box::new(io::Cursor::new(target)) as Box<dyn Read>));
        }
        Ok(layer.file(&item.path)?.map(|file| Box::new(file) as Box<dyn Read>))
    }

    /// Reads an item unless it is larger than what is shown. `None` if it has gone.
    pub fn load(&self, item: &Item) -> io::Result<Option<Content>> {
        if item.size > MAX_SHOWN_BYTES {
            return Ok(Some(Content::TooLarge));
        }
        let Some(content) = self.open(item)? else { return Ok(None) };
        let mut bytes = Vec::with_capacity(item.size as usize);
        content.take(MAX_SHOWN_BYTES + 1).read_to_end(&mut bytes)?;
        let fits = bytes.len() as u64 <= MAX_SHOWN_BYTES;
        Ok(Some(if fits { Content::Bytes(bytes) } else { Content::TooLarge }))
    }

    /// Whether two items have the same content. One that has gone is like no other.
    pub fn equal(&self, one: &Item, other: &Item) -> io::Result<bool> {
        if one.side == other.side && one.path == other.path {
            return Ok(true);
        }
        if one.size != other.size {
            return Ok(false);
        }
        match (self.open(one)?, self.open(other)?) {
            (Some(one), Some(other)) => equal_streams(one, other),
            _ => Ok(false),
        }
    }
}

fn equal_streams(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    const PIECE: usize = 128 << 10;
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let length = fill(&mut one, &mut left)?;
        if length != fill(&mut other, &mut right)? || left[..length] != right[..length] {
            return Ok(false);
        }
        if length < PIECE {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the end is reached.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match stream.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

/// What differs, sorted by path, nothing renamed yet.
pub fn compare(layers: &Layers, found: Found) -> io::Result<Vec<Change>> {
    let Found { mut old, new, .. } = found;
    let mut changes = Vec::new();
    for (path, item) in new {
        let before = old.remove(&path);
        let same_content = match &before {
            Some(before) => before.is_symlink() == item.is_symlink() && layers.equal(before, &item)?,
            None => false,
        };
        let same_mode = before.as_ref().is_some_and(|before| before.mode == item.mode);
        if !(same_content && same_mode) {
            changes.push(Change { path, old: before, new: Some(item), similarity: None, only_mode: same_content });
        }
    }
    for (path, item) in old {
        changes.push(Change { path, old: Some(item), new: None, similarity: None, only_mode: false });
    }
    changes.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(changes)
}
