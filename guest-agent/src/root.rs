//! The guest's root file system: the image below, the disk above, and the move into it.

use std::fs::File;
use std::path::Path;

use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::unistd::{chdir, chroot};

use crate::cmdline::Options;
use crate::console::{Failure, Result};
use crate::mount::{make_directory, Mount};
use crate::uevent::Uevents;

const IMAGE: &str = "/image";
const CHANGES: &str = "/changes";
const ROOT: &str = "/root";

/// Mounts the overlay and makes it `/`. Returns the root of the file system that takes the changes, which no path
/// leads to any more: it is what has to be written out at the end.
pub fn enter(options: &Options, uevents: &Uevents) -> Result<File> {
    mount_image(options, uevents)?;
    mount_changes(options, uevents)?;
    mount_overlay()?;
    let changes = File::open(CHANGES).map_err(|error| Failure::new(format!("open {CHANGES}"), error))?;
    switch_to(ROOT).map_err(|errno| Failure::new("switch to the new root", errno))?;
    Ok(changes)
}

fn mount_image(options: &Options, uevents: &Uevents) -> Result<()> {
    let Some(device) = &options.image else {
        return Err(Failure::new("find the root image", "no pyro.image= on the kernel command line"));
    };
    uevents.wait_for_node(device)?;
    Mount::device(device, "squashfs", Path::new(IMAGE)).flags(MsFlags::MS_RDONLY).apply()
}

fn mount_changes(options: &Options, uevents: &Uevents) -> Result<()> {
    match &options.disk {
        Some(device) => {
            uevents.wait_for_node(device)?;
            Mount::device(device, "ext4", Path::new(CHANGES)).flags(MsFlags::MS_NOATIME).apply()
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

/// The initial root cannot be unmounted, so the new one is moved over it. The kernel's file systems are left behind
/// here and mounted afresh inside, where the image decides what the paths mean.
fn switch_to(root: &str) -> nix::Result<()> {
    for mounted in ["/dev", "/proc", "/sys"] {
        umount2(mounted, MntFlags::MNT_DETACH)?;
    }
    chdir(root)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")
}
