//! `/init` of a bare guest, for benchmarks only: it does what is measured with as little around it as can be.
//!
//! `bare=` on the kernel command line chooses: `true` runs `/bin/true` of the image and resets the machine; `exec`
//! runs it once for each byte from the host and answers with one byte; `flood` answers each big-endian 8-byte count
//! with that many bytes out of one buffer, and `stdout` with as many that a `head -c` of the image writes straight into
//! the channel.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::libc;
use nix::mount::MsFlags;
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::{chdir, chroot, dup2_stdout, Pid};
use pyro_agent::channel;
use pyro_agent::cmdline::Options;
use pyro_agent::console::{report, Failure, Result};
use pyro_agent::mount::Mount;
use pyro_agent::poller::{Poller, Token};
use pyro_agent::uevent::Uevents;
use pyro_agent::{modules, poweroff, system};

const ROOT: &str = "/image";
const TRUE: &CStr = c"/bin/true";
const HEAD: &CStr = c"/usr/bin/head";
const FLOOD_CHUNK: usize = 64 * 1024;

fn main() {
    let Err(failure) = run();
    report(format_args!("fatal: {failure}"));
    poweroff::reset();
}

fn run() -> Result<Infallible> {
    system::mount_kernel_file_systems()?;
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(|error| Failure::new("read /proc/cmdline", error))?;
    let uevents = Uevents::open()?;
    modules::load_listed(Path::new("/modules"))?;
    match cmdline.split_ascii_whitespace().find_map(|word| word.strip_prefix("bare=")) {
        Some("true") => {
            enter_image(&cmdline, &uevents)?;
            run_program(&[TRUE])?;
            poweroff::reset()
        }
        Some("exec") => {
            let port = Port::open(&uevents)?;
            enter_image(&cmdline, &uevents)?;
            port.answer_with_programs()
        }
        Some("stdout") => {
            let port = Port::open(&uevents)?;
            enter_image(&cmdline, &uevents)?;
            port.answer_with_output()
        }
        Some("flood") => Port::open(&uevents)?.answer_with_floods(),
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

/// The channel, for reading and writing that waits.
struct Port {
    file: fs::File,
    poller: Poller,
}

impl Port {
    fn open(uevents: &Uevents) -> Result<Self> {
        let failed = |errno| Failure::new("set up the port", errno);
        let file = channel::open_port(uevents)?.into_file();
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(failed)?;
        let poller = Poller::new().map_err(failed)?;
        poller.watch_input(&file, Token::Channel).map_err(failed)?;
        Ok(Self { file, poller })
    }

    fn answer_with_programs(mut self) -> Result<Infallible> {
        let mut request = [0; 1];
        loop {
            self.receive(&mut request)?;
            run_program(&[TRUE])?;
            self.send(&request)?;
        }
    }

    fn answer_with_output(mut self) -> Result<Infallible> {
        dup2_stdout(&self.file).map_err(|errno| Failure::new("make the port the standard output", errno))?;
        let mut count = [0; 8];
        loop {
            self.receive(&mut count)?;
            let count = CString::new(u64::from_be_bytes(count).to_string()).expect("digits only");
            run_program(&[HEAD, c"-c", &count, c"/dev/zero"])?;
        }
    }

    fn answer_with_floods(mut self) -> Result<Infallible> {
        let chunk = [0; FLOOD_CHUNK];
        let mut count = [0; 8];
        loop {
            self.receive(&mut count)?;
            let mut left = u64::from_be_bytes(count);
            while left > 0 {
                let length = usize::try_from(left).map_or(FLOOD_CHUNK, |left| left.min(FLOOD_CHUNK));
                self.send(&chunk[..length])?;
                left -= length as u64;
            }
        }
    }

    /// Waits until the host has sent enough. While it is not connected, reading does not wait but yields nothing.
    fn receive(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            match self.file.read(buffer).map_err(|error| Failure::new("read from the host", error))? {
                0 => self.wait()?,
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        self.poller.wait(None).map(drop).map_err(|errno| Failure::new("wait for the host", errno))
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Failure::new("write to the host", error))
    }
}
