//! What programs expect of a running system: the kernel's file systems, a host name, the loopback interface.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::libc;
use nix::mount::MsFlags;
use nix::sys::socket::{socket, AddressFamily, SockFlag, SockType};
use nix::unistd::sethostname;

use crate::carried::Carried;
use crate::cmdline::Options;
use crate::console::{warn, Failure, Result};
use crate::machine::Machine;
use crate::mount::{make_directory, Mount};
use crate::uevent::Uevents;

const MACHINE_ID: &str = "/etc/machine-id";
const MODULES: &str = "/lib/modules";
const HOSTS: &str = "/etc/hosts";
const LOOPBACK_HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// The file systems that are mounted first.
pub fn mount_kernel_file_systems() -> Result<()> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Mount::kernel("devtmpfs", "/dev").flags(MsFlags::MS_NOSUID).data("mode=0755").apply()?;
    Mount::kernel("proc", "/proc").flags(plain).apply()?;
    Mount::kernel("sysfs", "/sys").flags(plain).apply()
}

/// What else all machines have alike. Only what no program can do without is fatal.
pub fn mount_common(options: &Options, uevents: &Uevents) -> Result<Vec<Carried>> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Mount::kernel("devpts", "/dev/pts").flags(MsFlags::MS_NOSUID).data("mode=0620,gid=5,ptmxmode=0666").apply()?;
    Mount::kernel("tmpfs", "/dev/shm").flags(plain).data("mode=1777").apply()?;
    Mount::kernel("tmpfs", "/run").flags(plain).data("mode=0755").apply()?;
    warn(Mount::kernel("cgroup2", "/sys/fs/cgroup").flags(plain | MsFlags::MS_NOEXEC).apply());
    warn(link_descriptors());
    warn(raise_loopback().map_err(|error| Failure::new("bring up the loopback interface", error)));
    let mut paths = vec!["/dev", "/proc", "/sys", "/run"];
    match mount_modules(options, uevents) {
        Ok(true) => paths.push(MODULES),
        outcome => warn(outcome.map(drop)),
    }
    paths.into_iter().map(Carried::take).collect()
}

/// Completes the new root, with what is carried into it.
pub fn prepare(machine: &Machine, common: Vec<Carried>) -> Result<()> {
    for carried in common {
        match carried.path() {
            MODULES => warn(carried.put_down()),
            _ => carried.put_down()?,
        }
    }
    make_directories()?;
    name(machine);
    Ok(())
}

/// Gives the machine its names.
pub fn name(machine: &Machine) {
    warn(name_host(&machine.host_name));
    warn(write_anew(MACHINE_ID, &format!("{}\n", machine.machine_id), 0o444));
}

/// Says whether there are modules to be had.
fn mount_modules(options: &Options, uevents: &Uevents) -> Result<bool> {
    let Some(device) = &options.modules else { return Ok(false) };
    uevents.wait_for_node(device)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Mount::device(device, "squashfs", Path::new(MODULES)).flags(flags).apply()?;
    Ok(true)
}

/// An existing directory keeps its mode: the image knows better.
fn make_directories() -> Result<()> {
    for (path, mode) in [("/workspace", 0o755), ("/root", 0o700), ("/tmp", 0o1777), ("/etc", 0o755)] {
        if Path::new(path).is_dir() {
            continue;
        }
        make_directory(Path::new(path))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(|error| Failure::new(format!("set the mode of {path}"), error))?;
    }
    Ok(())
}

/// The names that shells and build tools expect in `/dev`, which devtmpfs leaves to user space.
fn link_descriptors() -> Result<()> {
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        match std::os::unix::fs::symlink(target, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Failure::new(format!("link {link}"), error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A workspace's guests could have put anything there, so nothing that is there is written to. Nor would that be quick: a
/// file of the image that is written to is copied to the disk first, and flushed.
fn write_anew(path: &str, text: &str, mode: u32) -> Result<()> {
    let failed = |error| Failure::new(format!("write {path}"), error);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)
}

fn name_host(name: &str) -> Result<()> {
    sethostname(name).map_err(|errno| Failure::new("set the host name", errno))?;
    let hosts = fs::read_to_string(HOSTS).unwrap_or_default();
    match missing_hosts(&hosts, name) {
        Some(lines) => write_anew(HOSTS, &format!("{hosts}{lines}"), 0o644),
        None => Ok(()),
    }
}

/// The lines that a hosts file lacks for the host's own name to resolve.
fn missing_hosts(hosts: &str, host_name: &str) -> Option<String> {
    let named = |line: &str| {
        let entry = line.split('#').next().unwrap_or_default();
        entry.split_ascii_whitespace().skip(1).any(|name| name == host_name)
    };
    if hosts.lines().any(named) {
        return None;
    }
    let separator = if hosts.is_empty() || hosts.ends_with('\n') { "" } else { "\n" };
    let loopback = if hosts.trim().is_empty() { LOOPBACK_HOSTS } else { "" };
    Some(format!("{separator}{loopback}127.0.1.1\t{host_name}\n"))
}

fn raise_loopback() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: ifreq is plain data, for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the descriptor is open and the request is a whole ifreq that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_hosts_file_gets_everything() {
        assert_eq!(missing_hosts("", "pyro").unwrap(), format!("{LOOPBACK_HOSTS}127.0.1.1\tpyro\n"));
    }

    #[test]
    fn a_hosts_file_keeps_what_it_has() {
        assert_eq!(missing_hosts("127.0.0.1 localhost", "pyro").unwrap(), "\n127.0.1.1\tpyro\n");
        assert_eq!(missing_hosts("127.0.0.1 localhost\n", "pyro").unwrap(), "127.0.1.1\tpyro\n");
    }

    #[test]
    fn only_a_name_counts_as_the_name() {
        assert_eq!(missing_hosts("127.0.0.1\tlocalhost pyro # us\n", "pyro"), None);
        assert!(missing_hosts("pyro localhost\n", "pyro").is_some());
        assert!(missing_hosts("127.0.0.1 localhost # pyro\n", "pyro").is_some());
        assert!(missing_hosts("127.0.0.1 pyro.example\n", "pyro").is_some());
    }
}
