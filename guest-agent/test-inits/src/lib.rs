//! What the inits of test guests share: coming up as the agent does, and a channel that is read and written by waiting.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use pyro_agent::channel::Channel;
use pyro_agent::cmdline::{ChannelKind, Options};
use pyro_agent::console::{report, Failure, Result};
use pyro_agent::poller::{Poller, Token};
use pyro_agent::uevent::Uevents;
use pyro_agent::{channel, modules, poweroff, system, vsock};

/// Mounts what the kernel offers, loads the modules and goes on with `run`; the machine is reset when that fails.
pub fn boot(run: impl FnOnce(&Uevents) -> Result<Infallible>) -> ! {
    let Err(failure) = prepare().and_then(|uevents| run(&uevents));
    report(format_args!("fatal: {failure}"));
    poweroff::reset();
}

fn prepare() -> Result<Uevents> {
    system::mount_kernel_file_systems()?;
    let uevents = Uevents::open()?;
    let kind = channel_kind()?;
    modules::load_listed(Path::new("/modules"), |module| kind.needs(module))?;
    Ok(uevents)
}

fn channel_kind() -> Result<ChannelKind> {
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(|error| Failure::new("read /proc/cmdline", error))?;
    Options::parse(&cmdline)
        .channel
        .ok_or_else(|| Failure::new("find the channel", "the kernel command line names none"))
}

/// One connection is all that these inits need.
fn open_channel(uevents: &Uevents) -> Result<Channel> {
    match channel_kind()? {
        ChannelKind::VirtioSerial => channel::open_port(uevents),
        ChannelKind::Vsock => vsock::open().map(|(channel, _)| channel),
    }
}

/// The channel, for reading and writing that waits.
pub struct Port {
    pub file: File,
    poller: Poller,
}

impl Port {
    pub fn open(uevents: &Uevents) -> Result<Self> {
        let failed = |errno| Failure::new("set up the port", errno);
        let file = open_channel(uevents)?.into_file();
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(failed)?;
        let poller = Poller::new().map_err(failed)?;
        poller.watch_input(&file, Token::Channel).map_err(failed)?;
        Ok(Self { file, poller })
    }

    /// Waits until the host has sent enough. While it is not connected, reading does not wait but yields nothing.
    pub fn receive(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            match self.file.read(buffer).map_err(|error| Failure::new("read from the host", error))? {
                0 => drop(self.poller.wait(None).map_err(|errno| Failure::new("wait for the host", errno))?),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Failure::new("write to the host", error))
    }
}
