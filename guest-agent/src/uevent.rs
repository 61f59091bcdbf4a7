//! Waiting for devices by the kernel's own announcements instead of looking again and again.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{bind, recv, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};

use crate::console::{Failure, Result};

/// Longest wait for one device. Devices of a microVM appear within milliseconds of their driver.
const LIMIT: Duration = Duration::from_secs(10);

/// The netlink group that the kernel itself (not udev) announces on.
const KERNEL_GROUP: u32 = 1;

/// A subscription to device announcements. Open it before loading the drivers, so that none is missed.
pub struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    pub fn open() -> Result<Self> {
        Self::subscribe().map_err(|errno| Failure::new("listen for device events", errno))
    }

    fn subscribe() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkKObjectUEvent;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// Waits until a device node exists.
    pub fn wait_for_node(&self, node: &Path) -> Result<()> {
        self.wait_until(&node.display().to_string(), || node.exists().then_some(()))
    }

    /// Waits until `found` finds something; asks at once, and again after each announcement.
    pub fn wait_until<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + LIMIT;
        loop {
            // Emptied before looking: whatever is announced after the look wakes the poll below.
            self.forget_announcements();
            if let Some(thing) = found() {
                return Ok(thing);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(format!("wait for {what}"), format!("not there after {LIMIT:?}")));
            }
            self.wait_for_announcement(left)?;
        }
    }

    fn forget_announcements(&self) {
        let mut announcement = [0; 4096];
        // Any error ends it: EAGAIN is the regular one, ENOBUFS says that some were dropped, which is just as well.
        while recv(self.socket.as_raw_fd(), &mut announcement, MsgFlags::empty()).is_ok() {}
    }

    fn wait_for_announcement(&self, limit: Duration) -> Result<()> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Failure::new("wait for device events", errno)),
        }
    }
}
