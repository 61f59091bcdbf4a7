//! What makes one guest different from all others that were the same until now: the time, and what the kernel's random
//! numbers come from.
//!
//! Sources: random(4) for the requests and their numbers; linux/fs.h for that of block devices.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::libc;

use crate::console::{report, Failure, Result};
use crate::machine::{Machine, ENTROPY_LEN};

const NANOSECONDS: u64 = 1_000_000_000;
const BITS: libc::c_int = 8 * ENTROPY_LEN as libc::c_int;

/// `struct rand_pool_info` of linux/random.h with its entropy.
#[repr(C)]
struct PoolInfo {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    bytes: [u8; ENTROPY_LEN],
}

nix::ioctl_write_ptr_bad!(add_entropy, 0x4008_5203, PoolInfo);
nix::ioctl_none_bad!(reseed_generator, 0x5207);
nix::ioctl_none_bad!(flush_buffers, 0x1261);

/// Sets the clock, and has the kernel's random numbers begin anew. Without the latter the guest must not live.
pub fn begin(machine: &Machine) -> Result<()> {
    reseed(machine).map_err(|error| Failure::new("reseed the random number generator", error))?;
    if let Err(error) = set_clock(machine.time_ns) {
        report(format_args!("warning: set the clock: {error}"));
    }
    Ok(())
}

/// Forgets what was read from a block device: it may have been another one then.
pub fn forget(device: &Path) -> Result<()> {
    let failed = |error: io::Error| Failure::new(format!("forget what was on {}", device.display()), error);
    let file = File::open(device).map_err(failed)?;
    // SAFETY: the request takes no argument, and the descriptor is open.
    unsafe { flush_buffers(file.as_raw_fd()) }.map(drop).map_err(|errno| failed(errno.into()))
}

fn reseed(machine: &Machine) -> io::Result<()> {
    let random = File::options().write(true).open("/dev/urandom")?;
    let info = PoolInfo { entropy_bits: BITS, size: ENTROPY_LEN as libc::c_int, bytes: machine.entropy_bytes() };
    // SAFETY: the structure is as the request wants it and outlives the call.
    unsafe { add_entropy(random.as_raw_fd(), &raw const info) }?;
    // SAFETY: the request takes no argument, and the descriptor is open.
    unsafe { reseed_generator(random.as_raw_fd()) }?;
    Ok(())
}

fn set_clock(time_ns: u64) -> io::Result<()> {
    let time = libc::timespec {
        tv_sec: (time_ns / NANOSECONDS) as libc::time_t,
        tv_nsec: (time_ns % NANOSECONDS) as libc::c_long,
    };
    // SAFETY: the time outlives the call.
    match unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
