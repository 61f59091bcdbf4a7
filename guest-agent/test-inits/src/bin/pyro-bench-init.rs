//! `/init` of a bare guest, for benchmarks only: it does what is measured with as little around it as can be.
//!
//! `bare=` on the kernel command line chooses: `true` runs `/bin/true` of the image and resets the machine; `exec`
//! runs it once for each byte from the host and answers with one byte; `flood` answers each big-endian 8-byte count
//! with that many bytes out of one buffer, and `stdout` with as many that a `head -c` of the image writes straight into
//! the channel.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::MsFlags;
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::{chdir, chroot, dup2_stdout, Pid};
use pyro_agent::cmdline::Options;
use pyro_agent::console::{Failure, Result};
use pyro_agent::mount::Mount;
use pyro_agent::poweroff;
use pyro_agent::uevent::Uevents;
use pyro_test_inits::{boot, Port};

const ROOT: &str = "/image";
const TRUE: &CStr = c"/bin/true";
const HEAD: &CStr = c"/usr/bin/head";
const FLOOD_CHUNK: usize = 64 * 1024;

fn main() {
    boot(run);
}

fn run(uevents: &Uevents) -> Result<Infallible> {
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(|error| Failure::new("read /proc/cmdline", error))?;
    match cmdline.split_ascii_whitespace().find_map(|word| word.strip_prefix("bare=")) {
        Some("true") => {
            enter_image(&cmdline, uevents)?;
            run_program(&[TRUE])?;
            poweroff::reset()
        }
        Some("exec") => {
            let port = Port::open(uevents)?;
            enter_image(&cmdline, uevents)?;
            answer_with_programs(port)
        }
        Some("stdout") => {
            let port = Port::open(uevents)?;
            enter_image(&cmdline, uevents)?;
            answer_with_output(port)
        }
        Some("flood") => answer_with_floods(Port::open(uevents)?),
        _ => Err(Failure::new("find out what to do", "no usable bare= on the kernel command line")),
    }
}

fn enter_image(cmdline: &str, uevents: &Uevents) -> Result<()> {
    let image: PathBuf =
        Options::parse(cmdline).image.ok_or_else(|| Failure::new("find the root image", "no pyro.image="))?;
    uevents.wait_for_node(&image)?;
    Mount::device(&image, "squashfs", Path::new(ROOT)).flags(MsFlags::MS_RDONLY).apply()?;
    Mount::kernel("devtmpfs", &format!("{ROOT}/dev")).apply()?;
    chroot(ROOT).and_then(|()| chdir("/")).map_err(|errno| Failure::new("enter the root image", errno))
}

/// Starts a program as cheaply as can be (the child borrows the parent's memory) and waits for it.
fn run_program(arguments: &[&CStr]) -> Result<()> {
    let program = arguments[0];
    let failed = |cause: &dyn std::fmt::Display| Failure::new(format!("run {}", program.to_string_lossy()), cause);
    let pointers = arguments.iter().map(|argument| argument.as_ptr().cast_mut());
    let pointers: Vec<_> = pointers.chain([std::ptr::null_mut()]).collect();
    let environment = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: both lists end in null and live, with the strings in them, longer than the call.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            pointers.as_ptr(),
            environment.as_ptr(),
        )
    };
    if error != 0 {
        return Err(failed(&io::Error::from_raw_os_error(error)));
    }
    waitpid(Pid::from_raw(pid), Some(WaitPidFlag::empty())).map_err(|errno| failed(&errno))?;
    Ok(())
}

fn answer_with_programs(mut port: Port) -> Result<Infallible> {
    let mut request = [0; 1];
    loop {
        port.receive(&mut request)?;
        run_program(&[TRUE])?;
        port.send(&request)?;
    }
}

fn answer_with_output(mut port: Port) -> Result<Infallible> {
    dup2_stdout(&port.file).map_err(|errno| Failure::new("make the port the standard output", errno))?;
    let mut count = [0; 8];
    loop {
        port.receive(&mut count)?;
        let count = CString::new(u64::from_be_bytes(count).to_string()).expect("digits only");
        run_program(&[HEAD, c"-c", &count, c"/dev/zero"])?;
    }
}

fn answer_with_floods(mut port: Port) -> Result<Infallible> {
    let chunk = [0; FLOOD_CHUNK];
    let mut count = [0; 8];
    loop {
        port.receive(&mut count)?;
        let mut left = u64::from_be_bytes(count);
        while left > 0 {
            let length = usize::try_from(left).map_or(FLOOD_CHUNK, |left| left.min(FLOOD_CHUNK));
            port.send(&chunk[..length])?;
            left -= length as u64;
        }
    }
}
