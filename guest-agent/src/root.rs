//! The guest's root file system: the image below, the disk above, and the move into it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::mount::{mount, MsFlags};
use nix::unistd::{chdir, chroot, fchdir};

use crate::cmdline::Options;
use crate::console::{Failure, Result};
use crate::machine::Machine;
use crate::mount::{make_directory, Mount};
use crate::rebirth;
use crate::tools::Place;
use crate::uevent::Uevents;

/// Where the image is mounted until the guest is a machine.
pub const IMAGE: &str = "/image";
const CHANGES: &str = "/changes";
const SEED: &str = "/seed";
const ROOT: &str = "/root";

/// What has to be written out at the end besides the root, as open directories.
pub struct Mounts {
    /// The overlay on `/workspace`, if there is one.
    pub workspace: Option<OwnedFd>,
    /// The file system that takes the changes, which no path leads to any more.
    pub changes: File,
}

/// Mounts the disk, and the overlay over the image which is to be `/`, and does in there what `complete` does.
pub fn prepare(options: &Options, uevents: &Uevents, complete: impl FnOnce() -> Result<()>) -> Result<()> {
    mount_changes(options, uevents)?;
    mount_overlay()?;
    let failed = |error| Failure::new("look into the new root", error);
    let here = File::open("/").map_err(failed)?;
    let into = |root: &str| chroot(root).and_then(|()| chdir("/")).map_err(|errno| failed(errno.into()));
    into(ROOT)?;
    complete()?;
    fchdir(&here).map_err(|errno| failed(errno.into()))?;
    into(".")
}

/// Mounts what the workspace is, if there is to be one, in the root that was prepared, and makes that `/`.
pub fn enter(options: &Options, machine: &Machine, uevents: &Uevents) -> Result<(Mounts, Option<Place>)> {
    let seed = options.seed.as_deref().filter(|_| machine.seed);
    if machine.seed && seed.is_none() {
        return Err(Failure::new("find the seed", "no pyro.seed= on the kernel command line"));
    }
    let place = machine.workspace.then(|| mount_workspace(seed, uevents)).transpose()?;
    let failed = |error| Failure::new("open what was mounted", error);
    let workspace = place.as_ref().map(|place| place.workspace.try_clone()).transpose().map_err(failed)?;
    let changes = File::open(CHANGES).map_err(failed)?;
    switch_to(ROOT).map_err(|errno| Failure::new("switch to the new root", errno))?;
    Ok((Mounts { workspace, changes }, place))
}

/// Mounts the image, which all machines made of this guest have in common.
pub fn mount_image(options: &Options, uevents: &Uevents) -> Result<()> {
    let Some(device) = &options.image else {
        return Err(Failure::new("find the root image", "no pyro.image= on the kernel command line"));
    };
    uevents.wait_for_node(device)?;
    Mount::device(device, "squashfs", Path::new(IMAGE)).flags(MsFlags::MS_RDONLY).apply()
}

/// Lets the disk take what it is given. The kernel would hold writes back for the sake of reads, as if the disk were
/// one that turns, and look ten times a second whether to go on with that.
///
/// Source: the kernel's Documentation/ABI/stable/sysfs-block, `wbt_lat_usec`.
pub fn free_disk(options: &Options, uevents: &Uevents) -> Result<()> {
    let Some(device) = &options.disk else { return Ok(()) };
    uevents.wait_for_node(device)?;
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    let throttle = format!("/sys/block/{name}/queue/wbt_lat_usec");
    fs::write(&throttle, "0").map_err(|error| Failure::new(format!("write {throttle}"), error))
}

fn mount_changes(options: &Options, uevents: &Uevents) -> Result<()> {
    match &options.disk {
        Some(device) => {
            uevents.wait_for_node(device)?;
            rebirth::forget(device)?;
            // With `discard` what is deleted is given back to the host, whose file is sparse. It reads as zeros where
            // nothing was written, so that writing zeros to its inode tables would only make it grow.
            // Nor does it help to look through a disk that is nearly blank for where it is.
            let data = "discard,noinit_itable,no_prefetch_block_bitmaps";
            Mount::device(device, "ext4", Path::new(CHANGES)).flags(MsFlags::MS_NOATIME).data(data).apply()
        }
        None => Mount::kernel("tmpfs", CHANGES).data("mode=0700").apply(),
    }
}

/// `redirect_dir` lets directories of the image be renamed, as on any other file system.
fn mount_overlay() -> Result<()> {
    let (upper, work) = (format!("{CHANGES}/upper"), format!("{CHANGES}/work"));
    make_directory(Path::new(&upper))?;
    make_directory(Path::new(&work))?;
    let layers = format!("lowerdir={IMAGE},upperdir={upper},workdir={work},redirect_dir=on");
    Mount::kernel("overlay", ROOT).data(&layers).apply()
}

/// Mounts an overlay of its own on `/workspace`: the seed below, the disk above, so that what was changed there can be
/// told from all else. The upper layer's directory is what `/workspace` looks like.
fn mount_workspace(seed: Option<&Path>, uevents: &Uevents) -> Result<Place> {
    let folder = |name: &str| PathBuf::from(format!("{CHANGES}/{name}"));
    let (upper, work) = (folder("workspace/upper"), folder("workspace/work"));
    let lower = match seed {
        Some(_) => PathBuf::from(SEED),
        None => folder("workspace/empty"),
    };
    let commands = folder("commands");
    for directory in [&upper, &work, &lower, &commands] {
        make_directory(directory)?;
    }
    if let Some(device) = seed {
        uevents.wait_for_node(device)?;
        rebirth::forget(device)?;
        Mount::device(device, "squashfs", Path::new(SEED)).flags(MsFlags::MS_RDONLY).apply()?;
    }
    let target = PathBuf::from(format!("{ROOT}/workspace"));
    make_real_directory(&target)?;
    let (lower_path, upper_path, work) = (lower.display(), upper.display(), work.display());
    let layers = format!("lowerdir={lower_path},upperdir={upper_path},workdir={work},redirect_dir=on,metacopy=off");
    Mount { source: Path::new("workspace"), kind: "overlay", target: &target, flags: MsFlags::empty(), data: &layers }
        .apply()?;
    Place::open(&target, Some(&upper), Some(&lower), Some(&commands))
        .map_err(|error| Failure::new("open the workspace", error))
}

/// Nothing that a guest has put in the place of the directory is followed: seen from here, a link could lead anywhere.
fn make_real_directory(path: &Path) -> Result<()> {
    if path.is_symlink() {
        fs::remove_file(path).map_err(|error| Failure::new(format!("remove {}", path.display()), error))?;
    }
    make_directory(path)
}

/// The initial root cannot be unmounted, so the new one is moved over it. What else is mounted there is left
/// behind; copies of it are carried inside, where the image decides what the paths mean (`carried`).
fn switch_to(root: &str) -> nix::Result<()> {
    chdir(root)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")
}
