//! Putting what a patch makes into the workspace: all of it, or nothing.
//!
//! New files are written into a folder of their own in the workspace first, so that the steps that can be seen are
//! renames only. What they replace or remove goes into that folder, and back where a step fails. All is on the disk
//! before the patch is said to be applied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{openat, renameat, renameat2, AtFlags, OFlag, RenameFlags, ResolveFlag};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::stat::{fchmod, fchmodat, fstatat, mkdirat, FchmodatFlags, FileStat, Mode};
use nix::unistd::{fchown, fchownat, symlinkat, unlinkat, Gid, Uid, UnlinkatFlags};

use super::original::{refusal, shown, Original, Version};
use super::plan::{State, Wanted};
use crate::tools::paths::flushed::{flush, flush_folder};
use crate::tools::paths::folder::each_name;
use crate::tools::paths::{failure, open_below, split, FOLDER_MODE};
use crate::tools::{Code, Outcome, ToolError};

/// How to take a step back. A number is the name of something in the staging folder.
enum Undo<'a> {
    /// The file is in the staging folder.
    Bring {
        number: String,
        path: &'a [u8],
    },
    /// The old and the new file stand in each other's place.
    Exchange {
        number: String,
        path: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    RemoveFolder {
        path: &'a [u8],
    },
    MakeFolder {
        path: &'a [u8],
        stat: FileStat,
    },
}

struct Commit<'a> {
    workspace: BorrowedFd<'a>,
    staging: OwnedFd,
    undo: Vec<Undo<'a>>,
}

/// Makes the workspace what the plan says.
pub fn commit(workspace: BorrowedFd, states: &BTreeMap<Vec<u8>, State>) -> Outcome {
    // Being asked to end in the midst of it would leave half of it behind.
    let held = SigSet::from(Signal::SIGTERM).thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let outcome = commit_undisturbed(workspace, states);
    held.thread_set_mask()?;
    outcome
}

fn commit_undisturbed(workspace: BorrowedFd, states: &BTreeMap<Vec<u8>, State>) -> Outcome {
    let name = make_staging(workspace).map_err(|errno| refusal(b".", errno))?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let staging = open_below(workspace, name.as_str(), flags, ResolveFlag::RESOLVE_NO_SYMLINKS)?;
    let mut commit = Commit { workspace, staging, undo: Vec::new() };
    let outcome = commit.run(states);
    if outcome.is_err() {
        commit.take_back();
    }
    commit.clear();
    let _ = unlinkat(workspace, name.as_str(), UnlinkatFlags::RemoveDir);
    outcome?;
    // The staging folder went last and could be renamed from and to, so this is after all the steps in the same journal.
    flush_folder(workspace).map_err(|errno| refusal(b".", errno))
}

/// Makes the staging folder and returns its name. One of a process that was killed may still be there.
fn make_staging(workspace: BorrowedFd) -> nix::Result<String> {
    let mut number = 0;
    loop {
        let name = format!(".pyro-{}-patch-{number}.tmp", std::process::id());
        match mkdirat(workspace, name.as_str(), Mode::S_IRWXU) {
            Err(Errno::EEXIST) => number += 1,
            outcome => return outcome.map(|()| name),
        }
    }
}

impl<'a> Commit<'a> {
    fn run(&mut self, states: &'a BTreeMap<Vec<u8>, State>) -> Outcome {
        for (number, (path, state)) in states.iter().enumerate() {
            if let (Some(wanted), true) = (&state.now, differs(state)) {
                self.stage(&number.to_string(), wanted).map_err(|errno| refusal(path, errno))?;
            }
        }
        for (number, (path, state)) in states.iter().enumerate() {
            if let (Some(original), None) = (&state.original, &state.now) {
                self.remove(number.to_string(), path, original)?;
            }
        }
        self.remove_empty_folders(states)?;
        for (number, (path, state)) in states.iter().enumerate() {
            if state.now.is_some() && differs(state) {
                self.place(number.to_string(), path, state.original.as_ref())?;
            }
        }
        Ok(())
    }

    /// Makes a file in the staging folder.
    fn stage(&self, number: &str, wanted: &Wanted) -> nix::Result<()> {
        let owner = wanted.owner.map(|(user, group)| (Some(Uid::from_raw(user)), Some(Gid::from_raw(group))));
        if wanted.is_symlink {
            symlinkat(&wanted.content[..], &self.staging, number)?;
            return match owner {
                Some((user, group)) => fchownat(&self.staging, number, user, group, AtFlags::AT_SYMLINK_NOFOLLOW),
                None => Ok(()),
            };
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mut file: File = openat(&self.staging, number, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into();
        file.write_all(&wanted.content).map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        if let Some((user, group)) = owner {
            fchown(&file, user, group)?;
        }
        fchmod(&file, Mode::from_bits_truncate(wanted.mode))?;
        flush(&file)
    }

    /// Moves a file that the patch deletes out of the way.
    fn remove(&mut self, number: String, path: &'a [u8], original: &Original) -> Outcome {
        let (folder, name) = self.folder_of(path)?;
        renameat(&folder, name, &self.staging, number.as_str()).map_err(|errno| refusal(path, errno))?;
        let unchanged = self.holds(&number, original);
        self.undo.push(Undo::Bring { number, path });
        unchanged.then_some(()).ok_or_else(|| changed_meanwhile(path))
    }

    /// Puts a staged file into its place.
    fn place(&mut self, number: String, path: &'a [u8], original: Option<&Original>) -> Outcome {
        let folder = self.make_folder(split(path).0)?;
        let name = split(path).1;
        let flags = if original.is_some() { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::RENAME_NOREPLACE };
        renameat2(&self.staging, number.as_str(), &folder, name, flags).map_err(|errno| self.obstacle(path, errno))?;
        let Some(original) = original else {
            self.undo.push(Undo::Remove { path });
            return Ok(());
        };
        let unchanged = self.holds(&number, original);
        self.undo.push(Undo::Exchange { number, path });
        unchanged.then_some(()).ok_or_else(|| changed_meanwhile(path))
    }

    /// Why a file cannot take its place.
    fn obstacle(&self, path: &[u8], errno: Errno) -> ToolError {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match open_below(self.workspace, path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS) {
            Ok(_) => failure(&shown(path), Errno::EISDIR),
            Err(_) if errno == Errno::ENOENT => changed_meanwhile(path),
            Err(_) => refusal(path, errno),
        }
    }

    /// Whether what is in the staging folder now is what was read before.
    fn holds(&self, number: &str, original: &Original) -> bool {
        fstatat(&self.staging, number, AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Version::of(&stat) == original.version)
    }

    fn folder_of(&self, path: &'a [u8]) -> Result<(OwnedFd, &'a [u8]), ToolError> {
        let (folder, name) = split(path);
        let opened = self.open_folder(folder).map_err(|errno| refusal(path, errno))?;
        Ok((opened, name))
    }

    fn open_folder(&self, path: &[u8]) -> nix::Result<OwnedFd> {
        open_below(self.workspace, path, OFlag::O_PATH | OFlag::O_DIRECTORY, ResolveFlag::RESOLVE_NO_SYMLINKS)
    }

    /// Opens a folder after making what is missing of it.
    fn make_folder(&mut self, path: &'a [u8]) -> Result<OwnedFd, ToolError> {
        match self.open_folder(path) {
            Err(Errno::ENOENT) if path != b"." => {}
            outcome => return outcome.map_err(|errno| refusal(path, errno)),
        }
        let (parent, name) = split(path);
        let parent = self.make_folder(parent)?;
        let made = mkdirat(&parent, name, Mode::S_IRWXU).and_then(|()| {
            self.undo.push(Undo::RemoveFolder { path });
            // Not with mkdir, whose mode the umask may change.
            fchmodat(&parent, name, Mode::from_bits_truncate(FOLDER_MODE), FchmodatFlags::FollowSymlink)
        });
        match made {
            Ok(()) | Err(Errno::EEXIST) => self.open_folder(path).map_err(|errno| refusal(path, errno)),
            Err(errno) => Err(refusal(path, errno)),
        }
    }

    /// Folders that have lost their last file go, too, as with git, unless something is to be made in them.
    fn remove_empty_folders(&mut self, states: &'a BTreeMap<Vec<u8>, State>) -> Outcome {
        let removed = states.iter().filter(|(_, state)| state.original.is_some() && state.now.is_none());
        let mut folders = BTreeSet::new();
        for (path, _) in removed {
            let mut folder = split(path).0;
            while folder != b"." && folders.insert(folder) {
                folder = split(folder).0;
            }
        }
        let needed = |folder: &[u8]| {
            let below = [folder, b"/"].concat();
            let mut inside = states.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
            inside.any(|(_, state)| state.now.is_some())
        };
        // What is deeper comes later in the order of names.
        for folder in folders.into_iter().rev().filter(|folder| !needed(folder)) {
            self.remove_folder(folder)?;
        }
        Ok(())
    }

    fn remove_folder(&mut self, path: &'a [u8]) -> Outcome {
        let (parent, name) = self.folder_of(path)?;
        let stat = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| refusal(path, errno))?;
        match unlinkat(&parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => self.undo.push(Undo::MakeFolder { path, stat }),
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EBUSY) => {}
            Err(errno) => return Err(refusal(path, errno)),
        }
        Ok(())
    }

    /// Takes all steps back, the last one first. What cannot be taken back stays as it is.
    fn take_back(&mut self) {
        while let Some(step) = self.undo.pop() {
            let _ = self.take_step_back(&step);
        }
    }

    fn take_step_back(&self, step: &Undo) -> nix::Result<()> {
        let path = match step {
            Undo::Bring { path, .. } | Undo::Exchange { path, .. } | Undo::Remove { path } => path,
            Undo::RemoveFolder { path } | Undo::MakeFolder { path, .. } => path,
        };
        let (folder, name) = split(path);
        let folder = self.open_folder(folder)?;
        match step {
            Undo::Bring { number, .. } => {
                renameat2(&self.staging, number.as_str(), &folder, name, RenameFlags::RENAME_NOREPLACE)
            }
            Undo::Exchange { number, .. } => {
                renameat2(&self.staging, number.as_str(), &folder, name, RenameFlags::RENAME_EXCHANGE)
            }
            Undo::Remove { .. } => unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir),
            Undo::RemoveFolder { .. } => unlinkat(&folder, name, UnlinkatFlags::RemoveDir),
            Undo::MakeFolder { stat, .. } => {
                mkdirat(&folder, name, Mode::S_IRWXU)?;
                let (user, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                fchownat(&folder, name, Some(user), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                let mode = Mode::from_bits_truncate(stat.st_mode);
                fchmodat(&folder, name, mode, FchmodatFlags::FollowSymlink)
            }
        }
    }

    /// Removes what is left in the staging folder.
    fn clear(&self) {
        let mut names = Vec::new();
        let _ = each_name(self.staging.as_fd(), |name, _| names.push(name.to_vec()));
        for name in names {
            let _ = unlinkat(&self.staging, &name[..], UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Whether a path has to be written.
fn differs(state: &State) -> bool {
    match (&state.original, &state.now) {
        (Some(original), Some(now)) => {
            (original.is_symlink, original.mode) != (now.is_symlink, now.mode)
                && !(original.is_symlink && now.is_symlink)
                || original.content != now.content
        }
        (None, now) => now.is_some(),
        (Some(_), None) => false,
    }
}

fn changed_meanwhile(path: &[u8]) -> ToolError {
    let message = format!("{} was changed while the patch was applied; nothing of the patch is", shown(path));
    ToolError::new(Code::PatchFailed, message)
}
