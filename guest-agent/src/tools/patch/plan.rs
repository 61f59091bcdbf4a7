//! What a patch makes of the workspace, worked out before anything is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use nix::fcntl::OFlag;
use serde::Serialize;

use super::change::{changed_content, Change};
use super::model::FilePatch;
use super::names::{self, Target};
use super::original::{self, shown, Original};
use crate::tools::text::{MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK};
use crate::tools::{Code, ToolError};

/// Most bytes of files that one patch may change.
const MAX_BYTES: usize = 256 << 20;

/// What a file is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub content: Vec<u8>,
    pub is_symlink: bool,
    /// Permission bits.
    pub mode: u32,
    /// That of the file before; nobody's in particular for new ones.
    pub owner: Option<(u32, u32)>,
}

/// A path that the patch names.
#[derive(Debug)]
pub struct State {
    pub original: Option<Original>,
    pub now: Option<Wanted>,
    /// Another part of the patch has put a file here, so that removing the old one leaves this one.
    replaced: bool,
}

/// One file of the answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub path: String,
    pub change: &'static str,
    pub hunks: usize,
    pub old_path: Option<String>,
    pub offset_lines: usize,
}

pub struct Plan<'a> {
    workspace: BorrowedFd<'a>,
    pub states: BTreeMap<Vec<u8>, State>,
    /// Files that the patch deletes or renames, which may be made anew by another part of it.
    leaving: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl<'a> Plan<'a> {
    pub fn new(workspace: BorrowedFd<'a>) -> Self {
        Self { workspace, states: BTreeMap::new(), leaving: BTreeSet::new(), bytes: 0 }
    }

    /// Works out all parts of a patch, in their order.
    pub fn take(&mut self, patches: &[FilePatch]) -> Result<Vec<Report>, ToolError> {
        for patch in patches {
            if let Ok(Target { old: Some(old), new }) = self.target(patch) {
                let is_copy = patch.moved.as_ref().is_some_and(|moved| moved.is_copy);
                if new.as_ref() != Some(&old) && !is_copy {
                    self.leaving.insert(old);
                }
            }
        }
        patches.iter().map(|patch| self.take_one(patch)).collect()
    }

    fn target(&self, patch: &FilePatch) -> Result<Target, ToolError> {
        names::target(patch, &|path| match self.states.get(path) {
            Some(state) => state.now.is_some(),
            None if self.is_below_leaving(path) => false,
            None => matches!(original::find(self.workspace, path, OFlag::O_PATH), Ok(Some(_))),
        })
    }

    fn take_one(&mut self, patch: &FilePatch) -> Result<Report, ToolError> {
        let target = self.target(patch)?;
        let (old, moved) = (target.old.as_deref(), target.old != target.new);
        let is_copy = patch.moved.as_ref().is_some_and(|moved| moved.is_copy);
        let Some(new) = target.new.as_deref() else { return self.delete(patch, old.unwrap_or_default()) };
        let before = match old {
            Some(path) if moved => self.source(path, is_copy)?,
            Some(path) => self.load(path)?.now.clone(),
            None => None,
        };
        let before = match (before, old) {
            (None, Some(path)) if moved || !only_adds(patch) => return Err(missing(path)),
            (before, _) => before,
        };
        if old.is_none() || moved {
            self.check_free(new, patch)?;
        }
        let change = changed_content(&shown(old.unwrap_or(new)), patch, before.as_ref())?;
        let change_name = match (&before, moved) {
            (None, _) => "added",
            (Some(_), true) if is_copy => "added",
            (Some(_), true) => "renamed",
            (Some(_), false) => "modified",
        };
        if change_name == "renamed" {
            self.remove(old.unwrap_or_default())?;
        }
        let offset_lines = change.offset_lines;
        self.put(new, wanted(patch, before, change), moved || old.is_none())?;
        Ok(Report {
            path: shown(new),
            change: change_name,
            hunks: patch.hunks().len(),
            old_path: old.filter(|_| moved).map(shown),
            offset_lines,
        })
    }

    fn delete(&mut self, patch: &FilePatch, path: &[u8]) -> Result<Report, ToolError> {
        let before = self.source(path, false)?.ok_or_else(|| missing(path))?;
        let change = changed_content(&shown(path), patch, Some(&before))?;
        self.remove(path)?;
        let hunks = patch.hunks().len();
        Ok(Report { path: shown(path), change: "deleted", hunks, old_path: None, offset_lines: change.offset_lines })
    }

    fn load(&mut self, path: &[u8]) -> Result<&mut State, ToolError> {
        if !self.states.contains_key(path) {
            let there = !self.is_below_leaving(path);
            let original = if there { original::read(self.workspace, path)? } else { None };
            self.count(original.as_ref().map_or(0, |original| original.content.len()))?;
            let now = original.clone().map(|original| Wanted {
                content: original.content,
                is_symlink: original.is_symlink,
                mode: original.mode,
                owner: Some(original.owner),
            });
            self.states.insert(path.to_vec(), State { original, now, replaced: false });
        }
        Ok(self.states.get_mut(path).expect("it has just been put there"))
    }

    fn count(&mut self, bytes: usize) -> Result<(), ToolError> {
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            let message = format!("the patch changes files of more than {} MiB", MAX_BYTES >> 20);
            return Err(ToolError::new(Code::PatchFailed, message));
        }
        Ok(())
    }

    /// The file that is deleted, renamed or copied: the old one, whatever another part of the patch has put in its
    /// place, or for a copy (as with git) has made of it.
    fn source(&mut self, path: &[u8], is_copy: bool) -> Result<Option<Wanted>, ToolError> {
        let state = self.load(path)?;
        let original = state.original.as_ref().filter(|_| state.replaced || is_copy);
        Ok(match original {
            Some(original) => Some(Wanted {
                content: original.content.clone(),
                is_symlink: original.is_symlink,
                mode: original.mode,
                owner: Some(original.owner),
            }),
            None => state.now.clone(),
        })
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), ToolError> {
        let state = self.load(path)?;
        if state.original.is_none() || !state.replaced {
            state.now = None;
        }
        Ok(())
    }

    fn put(&mut self, path: &[u8], wanted: Wanted, replaced: bool) -> Result<(), ToolError> {
        self.count(wanted.content.len())?;
        if self.is_folder(path)? {
            self.states.insert(path.to_vec(), State { original: None, now: None, replaced: false });
        }
        let state = self.load(path)?;
        state.now = Some(wanted);
        state.replaced |= replaced;
        Ok(())
    }

    /// Whether a file may be made at a path.
    fn check_free(&mut self, path: &[u8], patch: &FilePatch) -> Result<(), ToolError> {
        if self.leaving.contains(path) && !self.states.get(path).is_some_and(|state| state.replaced) {
            return Ok(());
        }
        if self.is_folder(path)? {
            // It may be one that gets empty; otherwise it is refused when the file is to take its place.
            return Ok(());
        }
        let Some(there) = &self.load(path)?.now else { return Ok(()) };
        let same = changed_content("", patch, None).is_ok_and(|change| change.content == there.content);
        let already = if same { ", with just this content" } else { "; to change it, take out lines of it" };
        Err(ToolError::new(Code::Exists, format!("the patch makes {}, which exists already{already}", shown(path))))
    }

    /// Whether a file or a link that the patch removes stands where a folder would have to be.
    fn is_below_leaving(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.into_iter().any(|end| self.leaving.contains(&path[..end]))
    }

    fn is_folder(&mut self, path: &[u8]) -> Result<bool, ToolError> {
        Ok(!self.states.contains_key(path)
            && !self.is_below_leaving(path)
            && original::find(self.workspace, path, OFlag::O_PATH | OFlag::O_DIRECTORY)?.is_some())
    }
}

/// Whether the hunks need nothing that is there, so that they make a file, whatever the name before `+++` is.
fn only_adds(patch: &FilePatch) -> bool {
    !patch.hunks().is_empty() && patch.hunks().iter().all(|hunk| hunk.before().is_empty())
}

fn missing(path: &[u8]) -> ToolError {
    ToolError::new(Code::NotFound, format!("the patch changes {}, which does not exist", shown(path)))
}

/// The new file: what the patch says of its mode, and what it was before for the rest.
fn wanted(patch: &FilePatch, before: Option<Wanted>, change: Change) -> Wanted {
    let old_mode = before.as_ref().filter(|before| !before.is_symlink).map_or(0o644, |before| before.mode);
    let is_symlink = match patch.new_mode {
        Some(mode) => mode == MODE_SYMLINK,
        None => before.as_ref().is_some_and(|before| before.is_symlink),
    };
    let mode = match patch.new_mode {
        Some(MODE_EXECUTABLE) => old_mode | (old_mode & 0o444) >> 2,
        Some(MODE_FILE) => old_mode & !0o111,
        _ => old_mode,
    };
    Wanted { content: change.content, is_symlink, mode, owner: before.and_then(|before| before.owner) }
}
