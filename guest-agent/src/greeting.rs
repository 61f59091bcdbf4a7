//! The agent's part in opening a session.

use std::fs;
use std::io;

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

    fn reply(&self) -> Reply {
        Reply {
            generation: GENERATION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
        }
    }
}

/// Hellos are answered until one of them is followed by a start.
#[derive(Default)]
pub struct Greeting {
    scanner: Scanner,
    /// The nonce of the last hello, if the host speaks this agent's generation.
    answered: Option<Nonce>,
}

impl Greeting {
    /// Takes bytes from the host. Returns what came after the start, once it has come.
    pub fn receive(&mut self, bytes: &[u8], identity: &Identity, outgoing: &mut Outgoing) -> Option<Vec<u8>> {
        self.scanner.push(bytes);
        while let Some(packet) = self.scanner.take_packet() {
            match packet {
                Packet::Hello { nonce, generation } => {
                    self.answered = (generation == GENERATION).then_some(nonce);
                    send(outgoing, &encode(Kind::Reply, &nonce, &identity.reply()));
                }
                Packet::Start { nonce } if self.answered == Some(nonce) => {
                    send(outgoing, &encode(Kind::Started, &nonce, &Empty {}));
                    return Some(std::mem::take(&mut self.scanner).into_rest());
                }
                Packet::Start { .. } => {}
            }
        }
        None
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
    use crate::preamble::{Hello, HEADER_LEN, NONCE_LEN};

    const A: Nonce = [1; NONCE_LEN];
    const B: Nonce = [2; NONCE_LEN];

    fn identity() -> Identity {
        Identity { boot_id: "a-boot".into() }
    }

    fn hello(nonce: &Nonce, generation: u32) -> Vec<u8> {
        encode(Kind::Hello, nonce, &Hello { generation })
    }

    fn start(nonce: &Nonce) -> Vec<u8> {
        encode(Kind::Start, nonce, &Empty {})
    }

    #[test]
    fn hello_reply_start_started() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        assert_eq!(greeting.receive(&hello(&A, GENERATION), &identity(), &mut outgoing), None);
        let reply: Reply = serde_json::from_slice(&outgoing.pending()[HEADER_LEN..]).unwrap();
        assert_eq!((reply.generation, reply.boot_id.as_str()), (GENERATION, "a-boot"));
        assert_eq!(outgoing.pending()[..21], [&b"PYROR"[..], &A].concat());
        outgoing.clear();
        let bytes = [&start(&A)[..], b"yamux"].concat();
        assert_eq!(greeting.receive(&bytes, &identity(), &mut outgoing), Some(b"yamux".to_vec()));
        assert_eq!(outgoing.pending(), [&b"PYROA"[..], &A, &[0, 0, 0, 2], b"{}"].concat());
    }

    #[test]
    fn only_the_last_hello_can_be_started() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        let bytes = [hello(&A, GENERATION), hello(&B, GENERATION), start(&A)].concat();
        assert_eq!(greeting.receive(&bytes, &identity(), &mut outgoing), None);
        assert_eq!(greeting.receive(&start(&B), &identity(), &mut outgoing), Some(vec![]));
    }

    #[test]
    fn another_generation_is_answered_and_goes_no_further() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        let bytes = [hello(&A, GENERATION + 1), start(&A)].concat();
        assert_eq!(greeting.receive(&bytes, &identity(), &mut outgoing), None);
        let reply: Reply = serde_json::from_slice(&outgoing.pending()[HEADER_LEN..]).unwrap();
        assert_eq!(reply.generation, GENERATION);
    }

    #[test]
    fn a_host_that_does_not_read_gets_no_half_packets() {
        let (mut greeting, mut outgoing) = (Greeting::default(), Outgoing::default());
        outgoing.filled(outgoing.room() - 10);
        let pending = outgoing.pending().len();
        greeting.receive(&hello(&A, GENERATION), &identity(), &mut outgoing);
        assert_eq!(outgoing.pending().len(), pending);
    }
}
