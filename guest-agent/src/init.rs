//! The boot of the guest, from the kernel's hand-over to a root file system with a channel to the host.
//!
//! Nothing has to be arranged for a guest that runs out of memory: the kernel never chooses PID 1, and its children
//! begin with a neutral score.

use std::fs;
use std::path::Path;

use crate::channel::{self, Channel};
use crate::cmdline::{ChannelKind, Options};
use crate::console::{report, warn, Failure, Result};
use crate::greeting::Begun;
use crate::listener::Listener;
use crate::machine::Machine;
use crate::root::Mounts;
use crate::server::Groundwork;
use crate::tools::Place;
use crate::uevent::Uevents;
use crate::waiting::{self, Assigned};
use crate::{initramfs, modules, rebirth, root, system, vsock, warm};

const MODULES: &str = "/modules";

/// A guest that is the machine which it is to be.
pub struct Guest {
    pub channel: Channel,
    /// Where the next channel comes from, if the host does not come back on this one.
    pub listener: Option<Listener>,
    /// The session in which the host said what machine it is.
    pub begun: Begun,
    pub mounts: Mounts,
    pub groundwork: Groundwork,
    /// What tools work on, in a guest with a workspace.
    pub place: Option<Place>,
}

/// Boots as far as all machines are the same, waits for the host's word which one this is, and becomes it.
pub fn boot() -> Result<Guest> {
    system::mount_kernel_file_systems()?;
    let options = read_options()?;
    let uevents = Uevents::open()?;
    modules::load_listed(Path::new(MODULES), |module| options.channel.is_none_or(|channel| channel.needs(module)))?;
    initramfs::free()?;
    root::mount_image(&options, &uevents)?;
    let mut common = Some(system::mount_common(&options, &uevents)?);
    warn(root::free_disk(&options, &uevents));
    warm::hold_common_files(Path::new(root::IMAGE));
    let groundwork = Groundwork::lay().map_err(|error| Failure::new("get ready to serve", error))?;
    let (channel, listener) = open_channel(&options, &uevents)?;
    let names = |machine: &Machine| (machine.host_name.clone(), machine.machine_id.clone());
    let mut named = None;
    let mut prepare = |machine: &Machine| {
        rebirth::begin(machine)?;
        if let Some(common) = common.take() {
            root::prepare(&options, &uevents, || system::prepare(machine, common))?;
            named = Some(names(machine));
        }
        Ok(())
    };
    let Assigned { channel, machine, begun } = waiting::wait(channel, listener.as_ref(), &mut prepare)?;
    prepare(&machine)?;
    let (mounts, place) = root::enter(&options, &machine, &uevents)?;
    if named != Some(names(&machine)) {
        system::name(&machine);
    }
    Ok(Guest { channel, listener, begun, mounts, groundwork, place })
}

fn read_options() -> Result<Options> {
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(|error| Failure::new("read /proc/cmdline", error))?;
    let options = Options::parse(&cmdline);
    for word in &options.unknown {
        report(format_args!("warning: {word} on the kernel command line means nothing to this agent"));
    }
    Ok(options)
}

fn open_channel(options: &Options, uevents: &Uevents) -> Result<(Channel, Option<Listener>)> {
    match options.channel {
        Some(ChannelKind::VirtioSerial) => channel::open_port(uevents).map(|channel| (channel, None)),
        Some(ChannelKind::Vsock) => vsock::open().map(|(channel, listener)| (channel, Some(listener))),
        None => Err(Failure::new("find the channel", "no usable pyro.channel= on the kernel command line")),
    }
}
