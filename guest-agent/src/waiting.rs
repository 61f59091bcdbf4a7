//! The time between a guest's boot and the host's word what machine it is to be.
//!
//! A guest that waits can be kept as a template and become any number of machines: it has no disk, no name and no
//! session yet, and nothing secret in its memory. It answers hellos, and hosts may come and go. One that prepares for a
//! machine goes on waiting, and has a disk, of which every copy needs one as it is. Its names it may still change.

use std::io;
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::console::{Failure, Result};
use crate::greeting::{Begun, Greeting};
use crate::listener::Listener;
use crate::machine::Machine;
use crate::outgoing::Outgoing;
use crate::poller::{Poller, Token};

const READ_SIZE: usize = 4096;
/// How long the end of a channel may come later than its successor. Hosts wait three seconds for an answer.
const LOST: Duration = Duration::from_secs(2);

/// A guest that knows what to be, and the session in which it was told, which is still to be confirmed.
pub struct Assigned {
    pub channel: Channel,
    pub machine: Machine,
    pub begun: Begun,
}

/// Waits on the channel, and on those that `listener` gives after it, for an assignment; `prepare` gets ready for one.
pub fn wait(
    mut channel: Channel,
    listener: Option<&Listener>,
    prepare: &mut dyn FnMut(&Machine) -> Result<()>,
) -> Result<Assigned> {
    let failed = |error| Failure::new("wait to be told what to be", error);
    loop {
        if let Some(mut begun) = serve(&channel, listener, prepare)? {
            if let Some(machine) = begun.machine.take() {
                return Ok(Assigned { channel, machine, begun });
            }
        }
        if let Some(listener) = listener {
            let accepted = listener.accept().map_err(failed)?;
            channel = Channel::from_socket(accepted, true).map_err(failed)?;
        }
    }
}

/// Answers hellos until there is an assignment, or, on a channel that can have a successor, until there is one or its
/// host is gone.
fn serve(
    channel: &Channel,
    listener: Option<&Listener>,
    prepare: &mut dyn FnMut(&Machine) -> Result<()>,
) -> Result<Option<Begun>> {
    let failed = |error| Failure::new("wait to be told what to be", error);
    let poller = watching(channel, listener).map_err(failed)?;
    let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
    let mut scratch = [0; READ_SIZE];
    let mut successor_came = None;
    loop {
        send(channel, &mut outgoing);
        match channel.read(&mut scratch) {
            Ok(0) if channel.is_socket() => return Ok(None),
            // On a port: it has not yet heard that there is a host, or the next one's words will be announced.
            Ok(0) => {}
            Ok(count) => {
                if let Some(begun) = greeting.receive(&scratch[..count], None, &mut outgoing) {
                    return Ok(Some(begun));
                }
                if let Some(preparation) = greeting.take_preparation() {
                    prepare(&preparation.machine)?;
                    preparation.confirm(&mut outgoing);
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) if channel.is_socket() => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        // Whoever connects anew has nobody left on this channel. As a rule its end arrives, too, and is to be seen: the
        // kernel closes a socket whose peer has not ended seconds later, and then with a reset, which another machine
        // that is a copy of this one may send to a new connection of the same number. A VMM can lose one without a word.
        let patience = match successor_came.map(|came: Instant| LOST.saturating_sub(came.elapsed())) {
            Some(Duration::ZERO) => return Ok(None),
            patience => patience,
        };
        if poller.wait(patience).map_err(|errno| failed(errno.into()))?.contains(&Token::Listener) {
            successor_came.get_or_insert_with(Instant::now);
        }
    }
}

fn watching(channel: &Channel, listener: Option<&Listener>) -> io::Result<Poller> {
    let poller = Poller::new()?;
    poller.watch_input(channel, Token::Channel)?;
    if let Some(listener) = listener {
        poller.watch_input(listener, Token::Listener)?;
    }
    // A port takes nothing before its driver has heard that there is a host, whose words may have arrived by then.
    poller.watch_both(channel, Token::Channel, true)?;
    Ok(poller)
}

/// Sends what the channel takes; what else there is to say has to wait.
fn send(channel: &Channel, outgoing: &mut Outgoing) {
    while !outgoing.is_empty() {
        match channel.write(outgoing.pending()) {
            Ok(count) => outgoing.written(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Where the host is gone, reading tells.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;
    use crate::preamble::{encode, Hello, Kind, Nonce, Prepare, Reply, Start, GENERATION, HEADER_LEN, NONCE_LEN};

    const NONCE: Nonce = [7; NONCE_LEN];
    const PATIENCE: Duration = Duration::from_secs(30);

    fn machine() -> Machine {
        Machine {
            time_ns: 1,
            entropy: "00".repeat(32),
            machine_id: "a1".repeat(16),
            host_name: "pyro".into(),
            workspace: false,
            seed: false,
        }
    }

    fn reply(host: &mut UnixStream) -> Reply {
        host.write_all(&encode(Kind::Hello, &NONCE, &Hello { generation: GENERATION })).unwrap();
        let mut header = [0; HEADER_LEN];
        host.read_exact(&mut header).unwrap();
        let mut payload = vec![0; usize::from(header[HEADER_LEN - 1])];
        host.read_exact(&mut payload).unwrap();
        serde_json::from_slice(&payload).unwrap()
    }

    #[test]
    fn hosts_may_come_and_go_before_one_says_what_to_be() {
        let path = std::env::temp_dir().join(format!("pyro-agent-waiting-{}", std::process::id()));
        let listener = Listener::new(UnixListener::bind(&path).unwrap());
        let connect = || UnixStream::connect(&path).unwrap();
        let host = std::thread::spawn({
            let path = path.clone();
            move || {
                let mut first = UnixStream::connect(&path).unwrap();
                assert_eq!(reply(&mut first).boot_id, None);
                drop(first);
                let mut second = UnixStream::connect(&path).unwrap();
                reply(&mut second);
                second.write_all(&encode(Kind::Prepare, &NONCE, &Prepare { machine: machine() })).unwrap();
                let mut prepared = [0; HEADER_LEN + 2];
                second.read_exact(&mut prepared).unwrap();
                // A start without an assignment begins nothing here.
                second.write_all(&encode(Kind::Start, &NONCE, &Start { machine: None })).unwrap();
                reply(&mut second);
                let start = encode(Kind::Start, &NONCE, &Start { machine: Some(machine()) });
                second.write_all(&[&start[..], b"yamux"].concat()).unwrap();
                second
            }
        });
        drop(connect()); // one that says nothing at all
        let channel = Channel::from_socket(listener.accept().unwrap(), true).unwrap();
        let mut prepared = Vec::new();
        let mut prepare = |machine: &Machine| {
            prepared.push(machine.clone());
            Ok(())
        };
        let assigned = wait(channel, Some(&listener), &mut prepare).unwrap();
        assert_eq!(prepared, [machine()]);
        assert_eq!(assigned.machine, machine());
        assert_eq!(assigned.begun.nonce, NONCE);
        assert_eq!(assigned.begun.rest, b"yamux");
        drop(host.join().unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_host_that_is_lost_without_a_word_is_in_nobodys_way() {
        let path = std::env::temp_dir().join(format!("pyro-agent-lost-{}", std::process::id()));
        let listener = Listener::new(UnixListener::bind(&path).unwrap());
        let connect = || {
            let host = UnixStream::connect(&path).unwrap();
            host.set_read_timeout(Some(PATIENCE)).unwrap();
            host
        };
        let mut lost = connect();
        let channel = Channel::from_socket(listener.accept().unwrap(), true).unwrap();
        let waiting = std::thread::spawn(move || wait(channel, Some(&listener), &mut |_| Ok(())));
        reply(&mut lost);
        let mut next = connect();
        reply(&mut next);
        next.write_all(&encode(Kind::Start, &NONCE, &Start { machine: Some(machine()) })).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().machine, machine());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_a_host_has_said_counts_though_another_connects() {
        let path = std::env::temp_dir().join(format!("pyro-agent-said-{}", std::process::id()));
        let listener = Listener::new(UnixListener::bind(&path).unwrap());
        let mut host = UnixStream::connect(&path).unwrap();
        let hello = encode(Kind::Hello, &NONCE, &Hello { generation: GENERATION });
        let start = encode(Kind::Start, &NONCE, &Start { machine: Some(machine()) });
        host.write_all(&[hello, start].concat()).unwrap();
        let channel = Channel::from_socket(listener.accept().unwrap(), true).unwrap();
        let _another = UnixStream::connect(&path).unwrap();
        assert_eq!(wait(channel, Some(&listener), &mut |_| Ok(())).unwrap().machine, machine());
        std::fs::remove_file(path).unwrap();
    }
}
