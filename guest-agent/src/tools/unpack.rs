//! Unpacking a tar archive into a folder.
//!
//! The reader of archives is this tool's own: one from elsewhere would have to bound what it takes into memory, hand
//! out contents without copying them, and tell an archive that is cut off from one that ends.

mod archive;
mod extended;
mod header;
mod tree;

use std::io::{Read, Write};

use serde::Serialize;

use self::archive::Archive;
use self::header::Kind;
use self::tree::Tree;
use super::paths::Named;
use super::{Outcome, Place, ToolError};

/// What was unpacked: files and links (not folders), and the bytes in the files.
#[derive(Debug, Default, Serialize)]
struct Unpacked {
    files: u64,
    bytes: u64,
}

/// Unpacks the archive that comes through `stdin` into the folder at `path`, which is made if it is missing.
///
/// An entry replaces what is in its place, except that folders only replace folders, and only folders replace those.
/// Each file is the old or the new one, never a part of it. At the first entry that cannot be unpacked the tool gives
/// up; the ones before it stay.
pub fn run(place: &Place, path: &str, stdin: &mut dyn Read, stdout: &mut dyn Write) -> Outcome {
    let named = Named::parse(path)?;
    let folder = named.open_or_make_folder(place)?;
    let mut tree = Tree::new(&named.shown, folder);
    let unpacked = unpack(stdin, &mut tree);
    // The folders that are complete get their times and modes even if the rest fails.
    let finished = tree.finish();
    let unpacked = unpacked?;
    finished?;
    serde_json::to_writer(&mut *stdout, &unpacked).map_err(std::io::Error::from)?;
    Ok(stdout.write_all(b"\n")?)
}

fn unpack(stdin: &mut dyn Read, tree: &mut Tree) -> Result<Unpacked, ToolError> {
    let mut archive = Archive::new(stdin);
    let mut unpacked = Unpacked::default();
    while let Some(entry) = archive.next_entry()? {
        match entry.kind {
            Kind::Folder => tree.make_folder(&entry)?,
            Kind::File => tree.make_file(&entry, &mut archive)?,
            Kind::Symlink => tree.make_symlink(&entry)?,
            Kind::HardLink => tree.make_hard_link(&entry)?,
        }
        if entry.kind != Kind::Folder {
            unpacked.files += 1;
            unpacked.bytes += entry.size;
        }
    }
    archive.drain()?;
    Ok(unpacked)
}
