//! The agent's part in opening a session.

use std::fs;
use std::io;

use crate::machine::Machine;
use crate::outgoing::Outgoing;
use crate::preamble::{encode, Empty, Kind, Nonce, Packet, Reply, Scanner, GENERATION};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What the agent tells about itself.
pub struct Identity {
    boot_id: String,
}

impl Identity {
    pub fn read() -> io::Result<Self> {
        Ok(Self { boot_id: fs::read_to_string(BOOT_ID)?.trim_end().to_owned() })
    }
}

/// A session that begins: the host waits for its start to be confirmed.
#[derive(Debug, PartialEq, Eq)]
pub struct Begun {
    pub nonce: Nonce,
    /// What came with the start.
    pub machine: Option<Machine>,
    /// What came after it.
    pub rest: Vec<u8>,
}

impl Begun {
    /// Confirms the start.
    pub fn confirm(&self, outgoing: &mut Outgoing) {
        send(outgoing, &encode(Kind::Started, &self.nonce, &Empty {}));
    }
}

/// A guest that has no identity yet waits for it.
fn reply(identity: Option<&Identity>) -> Reply {
    Reply {
        generation: GENERATION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: identity.map(|identity| identity.boot_id.clone()),
    }
}

/// Hellos are answered until one of them is followed by a start.
#[derive(Default)]
pub struct Greeting {
    scanner: Scanner,
    /// The nonce of the last hello, if the host speaks this agent's generation.
    answered: Option<Nonce>,
    preparation: Option<Preparation>,
}

/// A machine that a guest which waits is to get ready to be; its host waits for the word that it is.
pub struct Preparation {
    pub machine: Machine,
    nonce: Nonce,
}

impl Preparation {
    /// Says that it is.
    pub fn confirm(&self, outgoing: &mut Outgoing) {
        send(outgoing, &encode(Kind::Prepared, &self.nonce, &Empty {}));
    }
}

impl Greeting {
    /// Takes bytes from the host. Returns the session that begins, once a start has come.
    pub fn receive(&mut self, bytes: &[u8], identity: Option<&Identity>, outgoing: &mut Outgoing) -> Option<Begun> {
        self.scanner.push(bytes);
        while let Some(packet) = self.scanner.take_packet() {
            match packet {
                Packet::Hello { nonce, generation } => {
                    self.answered = (generation == GENERATION).then_some(nonce);
                    send(outgoing, &encode(Kind::Reply, &nonce, &reply(identity)));
                }
                // A guest that waits begins nothing before it knows what to be.
                Packet::Start { nonce, machine }
                    if self.answered == Some(nonce) && (identity.is_some() || machine.is_some()) =>
                {
                    return Some(Begun { nonce, machine, rest: std::mem::take(&mut self.scanner).into_rest() });
                }
                Packet::Prepare { nonce, machine } if self.answered == Some(nonce) && identity.is_none() => {
                    self.preparation = Some(Preparation { machine, nonce });
                }
                Packet::Start { .. } | Packet::Prepare { .. } => {}
            }
        }
        None
    }

    /// What is to be prepared, once.
    pub fn take_preparation(&mut self) -> Option<Preparation> {
        self.preparation.take()
    }
}

/// Sends a packet whole or, when the host does not read, not at all: it asks again.
fn send(outgoing: &mut Outgoing, packet: &[u8]) {
    if outgoing.room() >= packet.len() {
        outgoing.push(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preamble::{Hello, Prepare, Start, HEADER_LEN, NONCE_LEN};

    const A: Nonce = [1; NONCE_LEN];
    const B: Nonce = [2; NONCE_LEN];

    fn identity() -> Identity {
        Identity { boot_id: "a-boot".into() }
    }

    fn hello(nonce: &Nonce, generation: u32) -> Vec<u8> {
        encode(Kind::Hello, nonce, &Hello { generation })
    }

    fn start(nonce: &Nonce) -> Vec<u8> {
        encode(Kind::Start, nonce, &Start { machine: None })
    }

    #[test]
    fn hello_reply_start_started() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        assert_eq!(greeting.receive(&hello(&A, GENERATION), Some(&identity()), &mut outgoing), None);
        let reply: Reply = serde_json::from_slice(&outgoing.pending()[HEADER_LEN..]).unwrap();
        assert_eq!((reply.generation, reply.boot_id.as_deref()), (GENERATION, Some("a-boot")));
        assert_eq!(outgoing.pending()[..21], [&b"PYROR"[..], &A].concat());
        outgoing.clear();
        let bytes = [&start(&A)[..], b"yamux"].concat();
        let begun = greeting.receive(&bytes, Some(&identity()), &mut outgoing).unwrap();
        assert_eq!(begun, Begun { nonce: A, machine: None, rest: b"yamux".to_vec() });
        begun.confirm(&mut outgoing);
        assert_eq!(outgoing.pending(), [&b"PYROA"[..], &A, &[0, 0, 0, 2], b"{}"].concat());
    }

    #[test]
    fn only_a_guest_that_waits_prepares() {
        let machine = Machine {
            time_ns: 1,
            entropy: "00".repeat(32),
            machine_id: "a1".repeat(16),
            host_name: "pyro".into(),
            workspace: true,
            seed: false,
        };
        let prepare = encode(Kind::Prepare, &A, &Prepare { machine: machine.clone() });
        let bytes = [&hello(&A, GENERATION), &prepare[..]].concat();
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        assert_eq!(greeting.receive(&bytes, Some(&identity()), &mut outgoing), None);
        assert!(greeting.take_preparation().is_none());
        assert_eq!(greeting.receive(&bytes, None, &mut outgoing), None);
        let preparation = greeting.take_preparation().unwrap();
        assert_eq!(preparation.machine, machine);
        assert!(greeting.take_preparation().is_none());
        outgoing.clear();
        preparation.confirm(&mut outgoing);
        assert_eq!(outgoing.pending(), [&b"PYROD"[..], &A, &[0, 0, 0, 2], b"{}"].concat());
        assert_eq!(greeting.receive(&encode(Kind::Prepare, &B, &Prepare { machine }), None, &mut outgoing), None);
        assert!(greeting.take_preparation().is_none(), "of a hello that was not the last");
    }

    #[test]
    fn only_the_last_hello_can_be_started() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        let bytes = [hello(&A, GENERATION), hello(&B, GENERATION), start(&A)].concat();
        assert_eq!(greeting.receive(&bytes, Some(&identity()), &mut outgoing), None);
        assert_eq!(greeting.receive(&start(&B), Some(&identity()), &mut outgoing).unwrap().nonce, B);
    }

    #[test]
    fn another_generation_is_answered_and_goes_no_further() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        let bytes = [hello(&A, GENERATION + 1), start(&A)].concat();
        assert_eq!(greeting.receive(&bytes, Some(&identity()), &mut outgoing), None);
        let reply: Reply = serde_json::from_slice(&outgoing.pending()[HEADER_LEN..]).unwrap();
        assert_eq!(reply.generation, GENERATION);
    }

    #[test]
    fn a_host_that_does_not_read_gets_no_half_packets() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        outgoing.filled(outgoing.room() - 10);
        let pending = outgoing.pending().len();
        greeting.receive(&hello(&A, GENERATION), Some(&identity()), &mut outgoing);
        assert_eq!(outgoing.pending().len(), pending);
    }
}
