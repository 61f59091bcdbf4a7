//! `/init` of the guest. Outside of a guest, `pyro-agent serve` speaks the protocol on the socket that is its
//! standard input, which is how its tests and those of its clients use it.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use pyro_agent::channel::Channel;
use pyro_agent::console::{report, Failure, Result};
use pyro_agent::server::Server;
use pyro_agent::{init, poweroff};

const USAGE: &str = "usage: pyro-agent serve < SOCKET (it is meant to be the /init of a guest)";

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| report(panic)));
    if std::process::id() == 1 {
        let Err(failure) = live();
        report(format_args!("fatal: {failure}"));
        poweroff::reset();
    }
    if std::env::args().nth(1).as_deref() != Some("serve") {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match serve_stdin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("fatal: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// The life of PID 1: it ends with the machine.
fn live() -> Result<std::convert::Infallible> {
    let guest = init::boot()?;
    let server = Server::new(guest.channel);
    server.map_err(|error| Failure::new("begin to serve", error))?.run();
    poweroff::run(&guest.changes)
}

fn serve_stdin() -> io::Result<()> {
    // As in a guest, orphans of commands come to the agent.
    nix::sys::prctl::set_child_subreaper(true)?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    Server::new(Channel::from_socket(socket)?)?.run();
    Ok(())
}
