//! The byte channel to the host, and how to find it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::libc;

use crate::console::{Failure, Result};
use crate::uevent::Uevents;

const PORTS: &str = "/sys/class/virtio-ports";
const PORT_NAME: &str = "agent";

/// A non-blocking duplex descriptor.
pub struct Channel {
    file: fs::File,
    /// Whether an end of input may be followed by a new connection, as on a virtio-serial port.
    reconnects: bool,
    is_socket: bool,
}

impl Channel {
    /// Takes a connected socket. `reconnects` says whether its end of input is not final, as there will be another
    /// socket in its place.
    pub fn from_socket(socket: OwnedFd, reconnects: bool) -> io::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { file: socket.into(), reconnects, is_socket: true })
    }

    pub fn into_file(self) -> fs::File {
        self.file
    }

    /// Whether this is a socket, which a new one may follow, or a port, whose hosts come and go.
    pub fn is_socket(&self) -> bool {
        self.is_socket
    }

    pub fn reconnects(&self) -> bool {
        self.reconnects
    }

    /// Reads what is there; 0 means that the host is not connected.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.file).write(bytes)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the virtio-serial port that the host named `agent`, waiting for it where it is not there yet.
pub fn open_port(uevents: &Uevents) -> Result<Channel> {
    let name =
        uevents.wait_until(&format!("a virtio-serial port named {PORT_NAME}"), || find_port(Path::new(PORTS)))?;
    let node = PathBuf::from("/dev").join(name);
    uevents.wait_for_node(&node)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&node)
        .map_err(|error| Failure::new(format!("open {}", node.display()), error))?;
    Ok(Channel { file, reconnects: true, is_socket: false })
}

/// The device name of the port, such as `vport0p1`. The driver learns the names of ports only after it made them, so
/// one without a name is not an error.
fn find_port(ports: &Path) -> Option<std::ffi::OsString> {
    let is_ours = |port: &fs::DirEntry| {
        fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim_end() == PORT_NAME)
    };
    fs::read_dir(ports).ok()?.flatten().find(is_ours).map(|port| port.file_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_port_by_its_name() {
        let ports = std::env::temp_dir().join(format!("pyro-agent-ports-{}", std::process::id()));
        for (port, name) in [("vport0p0", None), ("vport0p1", Some("console\n")), ("vport1p1", Some("agent\n"))] {
            fs::create_dir_all(ports.join(port)).unwrap();
            if let Some(name) = name {
                fs::write(ports.join(port).join("name"), name).unwrap();
            }
        }
        assert_eq!(find_port(&ports).unwrap(), "vport1p1");
        fs::remove_file(ports.join("vport1p1/name")).unwrap();
        assert_eq!(find_port(&ports), None);
        fs::remove_dir_all(&ports).unwrap();
        assert_eq!(find_port(&ports), None);
    }
}
