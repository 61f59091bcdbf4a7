//! `/init` of the guest. Outside of a guest, `pyro-agent serve` speaks the protocol, which is how its tests and those of
//! its clients use it.

use std::process::ExitCode;

use pyro_agent::console::{report, Failure, Result};
use pyro_agent::serve::{serve, Arguments, USAGE};
use pyro_agent::server::Server;
use pyro_agent::{init, poweroff};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| report(panic)));
    if std::process::id() == 1 {
        let Err(failure) = live();
        report(format_args!("fatal: {failure}"));
        poweroff::reset();
    }
    let Some(arguments) = Arguments::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(arguments) {
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
    let failed = |error| Failure::new("begin to serve", error);
    let mut server = Server::new(guest.groundwork, guest.channel, guest.place, None).map_err(failed)?;
    if let Some(listener) = guest.listener {
        server.listen(listener).map_err(failed)?;
    }
    server.resume(guest.begun);
    server.run();
    drop(server);
    // By now the server is gone, and with it the open logs, without which the disk can be made read-only.
    poweroff::run(&guest.mounts)
}
