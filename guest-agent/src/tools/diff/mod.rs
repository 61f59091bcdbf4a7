//! What has changed in the workspace since it was made.
//!
//! The upper layer of the overlay on `/workspace` holds all changes, so the cost follows what was changed and not how
//! much there is. The text is what `git diff` would write: folders alone do not count, of modes only whether a file is
//! executable, and nothing of a `.git` folder is looked at.

pub mod changes;
pub mod layer;
pub mod renames;
pub mod render;
pub mod similarity;
pub mod unified;
pub mod walk;

use std::io::{Read, Write};

use serde::Serialize;

use self::changes::{Change, Layers};
use self::layer::Layer;
use self::render::{render, Rendered};
use super::paths::WORKSPACE;
use super::{Code, Outcome, Place, ToolError};

/// Most differences that are told.
const MAX_ENTRIES: usize = 100_000;

/// What stands before each change's text.
#[derive(Debug, Serialize)]
struct Entry {
    path: String,
    change: &'static str,
    kind: &'static str,
    old_path: Option<String>,
    old_mode: Option<u32>,
    new_mode: Option<u32>,
    insertions: u64,
    deletions: u64,
    binary: bool,
    text_bytes: usize,
}

#[derive(Debug, Serialize)]
struct End {
    end: bool,
    truncated: bool,
}

/// Writes all differences, with at most `max_bytes` of text; changes whose text does not fit any more go without.
pub fn run(place: &Place, max_bytes: u64, _stdin: &mut dyn Read, stdout: &mut dyn Write) -> Outcome {
    let (Some(lower), Some(upper)) = (&place.lower, &place.upper) else {
        return Err(ToolError::new(Code::Io, format!("{WORKSPACE} has no baseline to compare with")));
    };
    let layers = Layers { lower: Layer::new(lower), upper: Layer::new(upper) };
    let found = walk::walk(layers.lower, layers.upper)?;
    let mut truncated = found.cut;
    let mut changes = renames::pair(&layers, changes::compare(&layers, found)?)?;
    truncated |= changes.len() > MAX_ENTRIES;
    changes.truncate(MAX_ENTRIES);
    let mut left = max_bytes;
    for change in &changes {
        let Some(rendered) = render(&layers, change)? else { continue };
        let text = rendered.text.as_deref().filter(|text| text.len() as u64 <= left);
        truncated |= text.is_none();
        let text = text.unwrap_or_default();
        left -= text.len() as u64;
        write_line(stdout, &entry(change, &rendered, text.len()))?;
        stdout.write_all(text)?;
    }
    write_line(stdout, &End { end: true, truncated })
}

fn write_line(stdout: &mut dyn Write, value: &impl Serialize) -> Outcome {
    let mut line = serde_json::to_vec(value).map_err(|error| ToolError::new(Code::Io, error.to_string()))?;
    line.push(b'\n');
    Ok(stdout.write_all(&line)?)
}

fn entry(change: &Change, rendered: &Rendered, text_bytes: usize) -> Entry {
    let symlink = change.new.as_ref().or(change.old.as_ref()).is_some_and(walk::Item::is_symlink);
    let renamed = change.old.as_ref().filter(|_| change.similarity.is_some());
    Entry {
        path: shown(&change.path),
        change: change.name(),
        kind: if symlink { "symlink" } else { "file" },
        old_path: renamed.map(|old| shown(&old.path)),
        old_mode: change.old.as_ref().map(|item| item.mode),
        new_mode: change.new.as_ref().map(|item| item.mode),
        insertions: rendered.insertions,
        deletions: rendered.deletions,
        binary: rendered.binary,
        text_bytes,
    }
}

fn shown(path: &[u8]) -> String {
    format!("{WORKSPACE}/{}", String::from_utf8_lossy(path))
}
