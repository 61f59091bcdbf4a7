//! The agent outside of a guest, for its tests and those of its clients: the same server, on a socket, with folders of
//! the host in the place of the guest's.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::channel::Channel;
use crate::listener::Listener;
use crate::server::{Groundwork, Server};
use crate::tools::Place;

pub const USAGE: &str = "\
usage: pyro-agent serve [--listen PATH] [--workspace DIR [--state DIR] [--upper DIR] [--lower DIR]]
It is meant to be the /init of a guest. Elsewhere it serves the socket that is its stdin, or one host after the other
on a Unix socket at PATH. --workspace is what commands and tools find as /workspace, --state where it keeps the output
of commands, --upper and --lower are the layers of the workspace's overlay.";

/// What is on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    listen: Option<PathBuf>,
    workspace: Option<PathBuf>,
    state: Option<PathBuf>,
    upper: Option<PathBuf>,
    lower: Option<PathBuf>,
}

impl Arguments {
    /// Reads the arguments after the program's name; `None` if they make no sense.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Option<Self> {
        if words.next()? != "serve" {
            return None;
        }
        let mut arguments = Self::default();
        while let Some(word) = words.next() {
            let place = match word.as_str() {
                "--listen" => &mut arguments.listen,
                "--workspace" => &mut arguments.workspace,
                "--state" => &mut arguments.state,
                "--upper" => &mut arguments.upper,
                "--lower" => &mut arguments.lower,
                _ => return None,
            };
            *place = Some(words.next()?.into());
        }
        let layers = arguments.state.is_some() || arguments.upper.is_some() || arguments.lower.is_some();
        (arguments.workspace.is_some() || !layers).then_some(arguments)
    }

    fn place(&self) -> io::Result<Option<Place>> {
        let Some(workspace) = &self.workspace else { return Ok(None) };
        let commands = self.state.as_ref().map(|state| state.join("commands"));
        if let Some(commands) = &commands {
            fs::create_dir_all(commands)?;
        }
        Place::open(workspace, self.upper.as_deref(), self.lower.as_deref(), commands.as_deref()).map(Some)
    }
}

/// Serves until the host powers the guest off or, without `--listen`, goes away.
pub fn serve(arguments: Arguments) -> io::Result<()> {
    // As in a guest, orphans of commands come to the agent.
    nix::sys::prctl::set_child_subreaper(true)?;
    let place = arguments.place()?;
    let workspace = arguments.workspace;
    match &arguments.listen {
        Some(path) => serve_all(path, place, workspace),
        None => {
            let socket = io::stdin().as_fd().try_clone_to_owned()?;
            Server::new(Groundwork::lay()?, Channel::from_socket(socket, false)?, place, workspace)?.run();
            Ok(())
        }
    }
}

fn serve_all(path: &Path, place: Option<Place>, workspace: Option<PathBuf>) -> io::Result<()> {
    // Whoever sees the socket's name can connect: binding makes one that nobody listens on yet.
    let unready = path.with_extension("unready");
    let listener = UnixListener::bind(&unready)?;
    fs::rename(&unready, path)?;
    let listener = Listener::new(listener);
    let mut server =
        Server::new(Groundwork::lay()?, Channel::from_socket(listener.accept()?, true)?, place, workspace)?;
    server.listen(listener)?;
    server.run();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<Arguments> {
        Arguments::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments() {
        assert_eq!(parse("serve"), Some(Arguments::default()));
        let arguments = parse("serve --workspace /w --state /s --listen /l --upper /u --lower /o").unwrap();
        assert_eq!(arguments.workspace, Some("/w".into()));
        assert_eq!(arguments.state, Some("/s".into()));
        assert_eq!(arguments.listen, Some("/l".into()));
        assert_eq!((arguments.upper, arguments.lower), (Some("/u".into()), Some("/o".into())));
        for line in ["", "dance", "serve --listen", "serve --colour red", "serve --state /s"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
