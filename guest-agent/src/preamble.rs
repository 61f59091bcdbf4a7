//! The packets that open a session, before the multiplexer.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

pub const MAGIC: &[u8; 4] = b"PYRO";
pub const NONCE_LEN: usize = 16;
pub const HEADER_LEN: usize = MAGIC.len() + 1 + NONCE_LEN + 4;

/// Longest payload in bytes.
pub const MAX_LEN: usize = 4096;

/// The generation of the protocol that this agent speaks.
pub const GENERATION: u32 = 4;

pub type Nonce = [u8; NONCE_LEN];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Hello = b'H',
    Reply = b'R',
    Start = b'S',
    Started = b'A',
    Prepare = b'P',
    Prepared = b'D',
}

/// A host's hello. Fields that a later generation adds are ignored, so that it can be told which one it met.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hello {
    pub generation: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    pub generation: u32,
    pub agent_version: String,
    /// Null while the guest waits to be told what machine it is.
    #[serde(deserialize_with = "Option::deserialize")]
    pub boot_id: Option<String>,
}

/// A start says what machine the guest is to be, where that is still to be said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
}

/// A host has the guest get ready for what a start will make of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    pub machine: Machine,
}

/// The payload of a confirmation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// A well-formed packet of the host's.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet {
    Hello { nonce: Nonce, generation: u32 },
    Start { nonce: Nonce, machine: Option<Machine> },
    Prepare { nonce: Nonce, machine: Machine },
}

/// Encodes a packet. The payload is one of this module's and far shorter than the limit.
pub fn encode(kind: Kind, nonce: &Nonce, payload: &impl Serialize) -> Vec<u8> {
    let payload = serde_json::to_vec(payload).expect("numbers and strings always have a JSON form");
    let length = u32::try_from(payload.len()).expect("a short payload");
    [&MAGIC[..], &[kind as u8], nonce, &length.to_be_bytes(), &payload].concat()
}

/// Finds the host's packets between whatever else is on the channel.
///
/// A packet that was cut off in an earlier session may look as if it went on into a later one. So every place
/// where a packet could begin is looked at, and the first one that is whole and well-formed counts.
#[derive(Debug, Default)]
pub struct Scanner {
    buffer: Vec<u8>,
}

enum Candidate {
    /// A packet, and its length in bytes.
    Whole(Packet, usize),
    Partial,
    No,
}

impl Scanner {
    /// Bytes to be looked at by `take_packet`. The caller gives no more than one read's worth at a time.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub fn take_packet(&mut self) -> Option<Packet> {
        let mut kept = None;
        for start in 0..self.buffer.len() {
            match examine(&self.buffer[start..]) {
                Candidate::Whole(packet, length) => {
                    self.buffer.drain(..start + length);
                    return Some(packet);
                }
                Candidate::Partial => kept = kept.or(Some(start)),
                Candidate::No => {}
            }
        }
        self.buffer.drain(..kept.unwrap_or(self.buffer.len()));
        None
    }

    /// What came after the last packet.
    pub fn into_rest(self) -> Vec<u8> {
        self.buffer
    }
}

fn examine(bytes: &[u8]) -> Candidate {
    let begun = bytes.len().min(MAGIC.len());
    if bytes[..begun] != MAGIC[..begun]
        || bytes.get(MAGIC.len()).is_some_and(|kind| !matches!(kind, b'H' | b'S' | b'P'))
    {
        return Candidate::No;
    }
    let Some((header, rest)) = bytes.split_at_checked(HEADER_LEN) else { return Candidate::Partial };
    let (nonce, length) = header[MAGIC.len() + 1..].split_at(NONCE_LEN);
    let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    if length > MAX_LEN || rest.first().is_some_and(|byte| *byte != b'{') {
        return Candidate::No;
    }
    let Some(payload) = rest.get(..length) else { return Candidate::Partial };
    let nonce = nonce.try_into().expect("sixteen bytes");
    match parse(header[MAGIC.len()], nonce, payload) {
        Some(packet) => Candidate::Whole(packet, HEADER_LEN + length),
        None => Candidate::No,
    }
}

fn parse(kind: u8, nonce: Nonce, payload: &[u8]) -> Option<Packet> {
    if kind == Kind::Hello as u8 {
        let hello: Hello = serde_json::from_slice(payload).ok()?;
        return Some(Packet::Hello { nonce, generation: hello.generation });
    }
    if kind == Kind::Prepare as u8 {
        let Prepare { machine } = serde_json::from_slice(payload).ok()?;
        return machine.is_sound().then_some(Packet::Prepare { nonce, machine });
    }
    let Start { machine } = serde_json::from_slice(payload).ok()?;
    machine.as_ref().is_none_or(Machine::is_sound).then_some(Packet::Start { nonce, machine })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Nonce = [1; NONCE_LEN];
    const B: Nonce = [2; NONCE_LEN];

    fn hello(nonce: &Nonce) -> Vec<u8> {
        encode(Kind::Hello, nonce, &Hello { generation: 1 })
    }

    fn start(nonce: &Nonce) -> Vec<u8> {
        encode(Kind::Start, nonce, &Start { machine: None })
    }

    fn packets(bytes: &[u8], step: usize) -> Vec<Packet> {
        let mut scanner = Scanner::default();
        let mut seen = Vec::new();
        for chunk in bytes.chunks(step) {
            scanner.push(chunk);
            seen.extend(std::iter::from_fn(|| scanner.take_packet()));
            assert!(scanner.buffer.len() < HEADER_LEN + MAX_LEN);
        }
        seen
    }

    #[test]
    fn finds_packets_in_any_split_and_between_anything() {
        let stale = b"\x00\x01stale PYR PYROX PYROPYRO";
        let bytes = [&stale[..], &hello(&A), stale, &hello(&B), &start(&B)].concat();
        let expected = [
            Packet::Hello { nonce: A, generation: 1 },
            Packet::Hello { nonce: B, generation: 1 },
            Packet::Start { nonce: B, machine: None },
        ];
        for step in 1..bytes.len() {
            assert_eq!(packets(&bytes, step), expected, "in steps of {step}");
        }
    }

    #[test]
    fn a_packet_cut_off_anywhere_does_not_hide_the_next() {
        let (cut, whole) = (hello(&A), hello(&B));
        for length in 0..cut.len() {
            let bytes = [&cut[..length], &whole].concat();
            assert_eq!(packets(&bytes, 7), [Packet::Hello { nonce: B, generation: 1 }], "cut at {length}");
        }
    }

    #[test]
    fn malformed_packets_are_not_packets() {
        let with_payload = |kind: u8, payload: &[u8]| {
            [&MAGIC[..], &[kind], &A, &(payload.len() as u32).to_be_bytes(), payload].concat()
        };
        let mut oversized = hello(&A);
        oversized[21..25].copy_from_slice(&(MAX_LEN as u32 + 1).to_be_bytes());
        for bytes in [
            with_payload(b'H', b"{}"),
            with_payload(b'H', b"{\"generation\":-1}"),
            with_payload(b'H', b"[1]"),
            with_payload(b'H', b""),
            with_payload(b'R', b"{}"),
            with_payload(b'S', b"{\"x\":1}"),
            with_payload(b'P', b"{}"),
            oversized,
        ] {
            assert_eq!(packets(&bytes, 3), []);
        }
    }

    #[test]
    fn a_later_generation_is_understood_as_far_as_its_number() {
        let bytes = [&b"PYROH"[..], &A, &29u32.to_be_bytes(), b"{\"generation\":2,\"extra\":true}"].concat();
        assert_eq!(packets(&bytes, 100), [Packet::Hello { nonce: A, generation: 2 }]);
    }

    #[test]
    fn what_follows_a_packet_is_kept() {
        let mut scanner = Scanner::default();
        scanner.push(&[&start(&A)[..], b"yamux"].concat());
        assert_eq!(scanner.take_packet(), Some(Packet::Start { nonce: A, machine: None }));
        assert_eq!(scanner.into_rest(), b"yamux");
    }
}
