//! The channel over vsock: the agent listens, and the host connects, through its VMM's Unix socket.
//!
//! A host that connects before anybody listens waits for nothing, so the agent knocks when it is there: it connects to
//! the host and hangs up.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{bind, connect, listen, socket, AddressFamily, Backlog, SockFlag, SockType, VsockAddr};

use crate::channel::Channel;
use crate::console::{report, Failure, Result};
use crate::listener::Listener;

/// Where the agent listens, and where the host waits for its knock. Also in src/pyro_mcp/vmm/vsock.py.
const AGENT_PORT: u32 = 5000;
const KNOCK_PORT: u32 = 5001;

/// The host is always number 2, and this stands for our own number, see vsock(7).
const HOST: u32 = 2;
const ANY: u32 = u32::MAX;

/// Listens, says so to the host, and waits for its first connection.
pub fn open() -> Result<(Channel, Listener)> {
    let listener = listening().map_err(|errno| Failure::new("listen on vsock", errno))?;
    if let Err(errno) = knock() {
        report(format_args!("warning: knock at the host: {errno}"));
    }
    let failed = |error| Failure::new("accept the host on vsock", error);
    let socket = listener.accept().map_err(failed)?;
    Ok((Channel::from_socket(socket, true).map_err(failed)?, listener))
}

fn listening() -> nix::Result<Listener> {
    let fd = new_socket()?;
    bind(fd.as_raw_fd(), &VsockAddr::new(ANY, AGENT_PORT))?;
    listen(&fd, Backlog::new(1)?)?;
    Ok(Listener::new(fd))
}

/// A host that does not wait for it has its reasons.
fn knock() -> nix::Result<()> {
    let fd = new_socket()?;
    match connect(fd.as_raw_fd(), &VsockAddr::new(HOST, KNOCK_PORT)) {
        Err(Errno::ECONNRESET | Errno::ECONNREFUSED) => Ok(()),
        other => other,
    }
}

fn new_socket() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
}
