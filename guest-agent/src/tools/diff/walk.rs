//! What the upper layer changes: the files that it takes away and those that it brings.
//!
//! Only the upper layer is walked, and of the lower one what the upper one names or hides, so the cost follows the
//! changes. What the marks of the layers mean is in the kernel's Documentation/filesystems/overlayfs.rst. There is one
//! lower layer, and `metacopy` is off: files of the upper layer are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nix::sys::stat::{FileStat, SFlag};

use super::layer::{is, is_whiteout, Attributes, Folder, Layer};
use crate::tools::paths::join;
use crate::tools::text::{is_git_folder, MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK};

/// Most files that are compared at once; what lies beyond is left out.
const MAX_FILES: usize = 400_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Lower,
    Upper,
}

/// A file or a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub side: Side,
    /// Where it is in its layer.
    pub path: Vec<u8>,
    /// As git has it.
    pub mode: u32,
    pub size: u64,
    /// Where in the lower layer it was before its folder was renamed.
    pub origin: Option<Vec<u8>>,
}

impl Item {
    fn new(side: Side, path: Vec<u8>, stat: &FileStat) -> Option<Self> {
        let mode = if is(stat, SFlag::S_IFLNK) {
            MODE_SYMLINK
        } else if !is(stat, SFlag::S_IFREG) {
            return None;
        } else if stat.st_mode & 0o100 == 0 {
            MODE_FILE
        } else {
            MODE_EXECUTABLE
        };
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        Some(Self { side, path, mode, size, origin: None })
    }

    pub fn is_symlink(&self) -> bool {
        self.mode == MODE_SYMLINK
    }
}

pub type Items = BTreeMap<Vec<u8>, Item>;

/// Files by their paths in the workspace. A path that is in both may have changed, or not.
#[derive(Debug, Default)]
pub struct Found {
    pub old: Items,
    pub new: Items,
    /// There were more.
    pub cut: bool,
}

/// A folder of the upper layer.
struct Pending {
    path: Vec<u8>,
    /// The folder of the lower layer that shows through.
    below: Option<Vec<u8>>,
    /// That folder has the same path, and files that show through are neither in `old` nor in `new`. Otherwise all that
    /// the lower layer has at this path is in `old`, and all that shows through has to get into `new`.
    unmoved: bool,
}

struct Walk<'a> {
    lower: Layer<'a>,
    upper: Layer<'a>,
    found: Found,
    pending: Vec<Pending>,
}

/// Finds what the upper layer changes.
pub fn walk(lower: Layer, upper: Layer) -> io::Result<Found> {
    let root = Pending { path: b".".to_vec(), below: Some(b".".to_vec()), unmoved: true };
    let mut walk = Walk { lower, upper, found: Found::default(), pending: vec![root] };
    while let Some(folder) = walk.pending.pop() {
        walk.visit(&folder)?;
        if walk.found.old.len() + walk.found.new.len() > MAX_FILES {
            walk.found.cut = true;
            break;
        }
    }
    Ok(walk.found)
}

impl Walk<'_> {
    fn visit(&mut self, pending: &Pending) -> io::Result<()> {
        let Some(folder) = self.upper.folder(&pending.path)? else { return Ok(()) };
        let below = match &pending.below {
            Some(path) => self.lower.folder(path)?,
            None => None,
        };
        let entries = folder.entries()?;
        if let (false, Some(below), Some(path)) = (pending.unmoved, &below, &pending.below) {
            let hidden = entries.iter().map(|(name, _)| name.as_slice()).collect();
            self.show_through(below, path, &pending.path, &hidden)?;
        }
        for (name, stat) in entries {
            if is_git_folder(&name) {
                continue;
            }
            if is(&stat, SFlag::S_IFDIR) {
                let attributes = folder.attributes(&name)?;
                self.enter(pending, &name, attributes)?;
            } else if pending.unmoved {
                self.replace(below.as_ref(), join(&pending.path, &name), &name, &stat)?;
            } else if let Some(item) = Item::new(Side::Upper, join(&pending.path, &name), &stat) {
                let origin = pending.below.as_ref().map(|path| join(path, &name));
                self.found.new.insert(item.path.clone(), Item { origin, ..item });
            }
        }
        Ok(())
    }

    /// A folder of the upper layer: finds out what shows through there, and leaves it for later.
    fn enter(&mut self, parent: &Pending, name: &[u8], attributes: Attributes) -> io::Result<()> {
        let path = join(&parent.path, name);
        let below = match attributes {
            Attributes { redirect: Some(target), .. } => redirected(parent, &target),
            Attributes { opaque: true, .. } => None,
            _ => parent.below.as_ref().map(|below| join(below, name)),
        };
        let unmoved = parent.unmoved && below.as_ref() == Some(&path) && self.lower.folder(&path)?.is_some();
        if parent.unmoved && !unmoved {
            self.take_away(&path)?;
        }
        self.pending.push(Pending { path, below, unmoved });
        Ok(())
    }

    /// Something that is no folder, in the place of what the lower layer has there.
    fn replace(&mut self, below: Option<&Folder>, path: Vec<u8>, name: &[u8], stat: &FileStat) -> io::Result<()> {
        if let Some(old) = below.map(|below| below.stat(name)).transpose()?.flatten() {
            if is(&old, SFlag::S_IFDIR) {
                self.take_away(&path)?;
            } else if let Some(item) = Item::new(Side::Lower, path.clone(), &old) {
                self.found.old.insert(path.clone(), item);
            }
        }
        if !is_whiteout(stat) {
            if let Some(item) = Item::new(Side::Upper, path.clone(), stat) {
                self.found.new.insert(path, item);
            }
        }
        Ok(())
    }

    /// All that the lower layer has at a path, or below, does not show through any more.
    fn take_away(&mut self, path: &[u8]) -> io::Result<()> {
        let Some(stat) = self.lower.stat(path)? else { return Ok(()) };
        let mut pending = vec![(path.to_vec(), stat)];
        while let Some((path, stat)) = pending.pop() {
            if is(&stat, SFlag::S_IFDIR) {
                pending.extend(self.lower_entries(&path)?.into_iter().map(|(name, stat)| (join(&path, &name), stat)));
            } else if let Some(item) = Item::new(Side::Lower, path, &stat) {
                self.found.old.insert(item.path.clone(), item);
            }
            if self.found.old.len() > MAX_FILES {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What the folder `below` of the lower layer has, but for the `hidden` names, is now at `path`.
    fn show_through(&mut self, below: &Folder, from: &[u8], path: &[u8], hidden: &BTreeSet<&[u8]>) -> io::Result<()> {
        let mut pending = Vec::new();
        let entries = below.entries()?.into_iter().filter(|(name, _)| !hidden.contains(name.as_slice()));
        let entries = entries.filter(|(name, _)| !is_git_folder(name));
        pending.extend(entries.map(|(name, stat)| (join(from, &name), join(path, &name), stat)));
        while let Some((from, path, stat)) = pending.pop() {
            if is(&stat, SFlag::S_IFDIR) {
                let entries = self.lower_entries(&from)?.into_iter();
                pending.extend(entries.map(|(name, stat)| (join(&from, &name), join(&path, &name), stat)));
            } else if let Some(item) = Item::new(Side::Lower, from, &stat) {
                let origin = Some(item.path.clone());
                self.found.new.insert(path, Item { origin, ..item });
            }
            if self.found.new.len() > MAX_FILES {
                return Ok(());
            }
        }
        Ok(())
    }

    fn lower_entries(&self, path: &[u8]) -> io::Result<Vec<(Vec<u8>, FileStat)>> {
        let mut entries = match self.lower.folder(path)? {
            Some(folder) => folder.entries()?,
            None => Vec::new(),
        };
        entries.retain(|(name, _)| !is_git_folder(name));
        Ok(entries)
    }
}

/// The folder that a redirection names.
fn redirected(parent: &Pending, target: &[u8]) -> Option<Vec<u8>> {
    match target.strip_prefix(b"/") {
        Some(path) => Some(path.to_vec()),
        None => parent.below.as_ref().map(|below| join(below, target)),
    }
}
