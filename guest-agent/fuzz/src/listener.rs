//! A host that insists on what the agent may say.

use std::collections::HashMap;

use pyro_agent::frame::{Decoder, Part, Tag};
use pyro_agent::message::AgentMessage;
use pyro_agent::mux::HEADER_LEN;

const DATA: u8 = 0;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

#[derive(Default)]
struct Stream {
    decoder: Decoder,
    concluded: bool,
}

#[derive(Default)]
pub struct Listener {
    streams: HashMap<u32, Stream>,
}

impl Listener {
    /// The agent always sends whole frames of the multiplexer.
    pub fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (header, rest) = bytes.split_at(HEADER_LEN);
            let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *header else { unreachable!() };
            let flags = u16::from_be_bytes([f0, f1]);
            let stream = u32::from_be_bytes([s0, s1, s2, s3]);
            let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            assert!(version == 0 && kind <= 3 && flags & !(ACK | FIN | RST) == 0);
            let (payload, rest) = rest.split_at(if kind == DATA { length } else { 0 });
            if kind == DATA {
                self.hear_data(stream, flags, payload);
            }
            bytes = rest;
        }
    }

    fn hear_data(&mut self, id: u32, flags: u16, mut payload: &[u8]) {
        if flags & ACK != 0 {
            self.streams.insert(id, Stream::default());
        }
        let stream = self.streams.entry(id).or_default();
        while let Some(part) = stream.decoder.next(&mut payload).expect("frames that are not broken") {
            assert!(!stream.concluded, "nothing comes after the last message");
            match part {
                Part::Data(tag, _) => assert!(tag == Tag::Stdout || tag == Tag::Stderr),
                Part::Message(json) => {
                    let message = serde_json::from_slice(&json).expect("a message of the agent's");
                    stream.concluded = !matches!(message, AgentMessage::Started { .. });
                }
                Part::Empty(_) => panic!("an empty frame"),
            }
        }
        if flags & FIN != 0 {
            self.streams.remove(&id);
        }
    }
}
