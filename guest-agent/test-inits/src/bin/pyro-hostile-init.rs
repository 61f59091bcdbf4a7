//! `/init` of a guest that has turned against its host, for tests only: it opens the channel as the agent would and then
//! breaks the rules in the way that the file `/hostile` of its initramfs names.

use std::convert::Infallible;
use std::fs;

use pyro_agent::console::{Failure, Result};
use pyro_agent::frame;
use pyro_agent::preamble::{encode, Empty, Kind, Packet, Reply, Scanner, GENERATION};
use pyro_agent::uevent::Uevents;
use pyro_test_inits::{boot, Port};

const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;
const PING: u8 = 2;
const NO_FLAGS: u16 = 0;
const SYN: u16 = 1;
const MUX_HEADER: usize = 12;
const CHUNK: usize = 64 * 1024;
/// The first stream that the host opens.
const STREAM: u32 = 1;

fn main() {
    boot(run);
}

fn run(uevents: &Uevents) -> Result<Infallible> {
    let mode = fs::read_to_string("/hostile").map_err(|error| Failure::new("read /hostile", error))?;
    let mut port = Port::open(uevents)?;
    if mode != "noise" {
        greet(&mut port)?;
    }
    match mode.as_str() {
        "noise" => flood(&mut port, &noise()),
        "pings" => flood(&mut port, &mux_header(PING, SYN, 0, 7)),
        "uninvited" => flood(&mut port, &mux_header(WINDOW_UPDATE, SYN, 2, 0)),
        "huge" => flood(&mut port, &mux_header(DATA, NO_FLAGS, STREAM, u32::MAX)),
        "overrun" => flood(&mut port, &data(&[0; CHUNK])),
        "oversized" => flood(&mut port, &data(&[1, 0xff, 0xff, 0xff, 0xff])),
        "babble" => flood(&mut port, &data(&message(&"[".repeat(CHUNK / 2)))),
        "unstoppable" => run_for_ever(&mut port),
        "deaf" => wait_for_ever(&mut port),
        _ => Err(Failure::new("find out what to do", "no such way to be hostile")),
    }
}

/// The handshake and the beginning of the first stream, by the rules.
fn greet(port: &mut Port) -> Result<()> {
    let mut scanner = Scanner::default();
    loop {
        let mut byte = [0];
        port.receive(&mut byte)?;
        scanner.push(&byte);
        match scanner.take_packet() {
            None | Some(Packet::Prepare { .. }) => {}
            Some(Packet::Hello { nonce, .. }) => {
                let reply = Reply { generation: GENERATION, agent_version: "0".into(), boot_id: Some("0".into()) };
                port.send(&encode(Kind::Reply, &nonce, &reply))?;
            }
            Some(Packet::Start { nonce, .. }) => {
                port.send(&encode(Kind::Started, &nonce, &Empty {}))?;
                return port.receive(&mut [0; MUX_HEADER]);
            }
        }
    }
}

fn flood(port: &mut Port, bytes: &[u8]) -> Result<Infallible> {
    let many = bytes.repeat(CHUNK.div_ceil(bytes.len()));
    loop {
        port.send(&many)?;
    }
}

/// Says that a command has started, and then neither ends it nor listens.
fn run_for_ever(port: &mut Port) -> Result<Infallible> {
    port.send(&data(&message(r#"{"type":"started","pid":2}"#)))?;
    wait_for_ever(port)
}

fn wait_for_ever(port: &mut Port) -> Result<Infallible> {
    loop {
        port.receive(&mut [0; CHUNK])?;
    }
}

fn mux_header(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    [&[0, kind][..], &flags.to_be_bytes(), &stream.to_be_bytes(), &length.to_be_bytes()].concat()
}

fn data(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("payloads here are short");
    [mux_header(DATA, NO_FLAGS, STREAM, length), payload.to_vec()].concat()
}

fn message(json: &str) -> Vec<u8> {
    [&frame::header(frame::Tag::Message, json.len())[..], json.as_bytes()].concat()
}

/// Bytes without a pattern (xorshift64).
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..CHUNK).flat_map(|_| next()).collect()
}
