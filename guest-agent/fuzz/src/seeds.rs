//! Writes inputs for the fuzzer to begin with into the directory that it is given: every example of the protocol, and a
//! session with a command that does what commands do.

// What is built with the fuzzer's instrumentation has to be linked with the fuzzer.
use libfuzzer_sys as _;

use std::path::PathBuf;

use serde_json::{json, Value};

const FRAMES: u8 = 0;
const PREAMBLE: u8 = 1;
const SESSION: u8 = 2;

/// What happens in a session, as `Guest::live` understands it.
const SEND: u8 = 0;
const START: u8 = 3;
const SPEAK: u8 = 4;
const EXIT: u8 = 5;
const EXPIRE: u8 = 6;

const WINDOW_UPDATE: u8 = 1;
const PING: u8 = 2;
const SYN: u8 = 1;
const FIN: u8 = 4;
const RST: u8 = 8;

fn main() -> std::io::Result<()> {
    let directory = PathBuf::from(std::env::args().nth(1).expect("a directory"));
    let examples: Value = serde_json::from_str(include_str!("../../../protocol/examples.json"))?;
    let mut seeds = vec![session(), cancelled_session(), preamble()];
    for group in ["valid", "invalid"] {
        let messages = examples[group].as_array().expect("a list");
        seeds.extend(messages.iter().map(|example| of_message(&example["message"])));
    }
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}

fn frame(tag: u8, payload: &[u8]) -> Vec<u8> {
    [&[tag][..], &(payload.len() as u32).to_be_bytes(), payload].concat()
}

fn mux(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
    [&[0, kind, 0, flags][..], &stream.to_be_bytes(), &(length as u32).to_be_bytes()].concat()
}

fn data(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [mux(0, flags, stream, payload.len()), payload.to_vec()].concat()
}

fn send(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(200).flat_map(|chunk| [&[SEND, chunk.len() as u8], chunk].concat()).collect()
}

fn of_message(message: &Value) -> Vec<u8> {
    [&[FRAMES][..], &frame(3, message.to_string().as_bytes())].concat()
}

fn exec(stdin: bool, timeout_ms: Option<u64>) -> Vec<u8> {
    let message =
        json!({"type": "exec", "argv": ["x"], "env": {}, "cwd": "/", "stdin": stdin, "timeout_ms": timeout_ms});
    frame(3, message.to_string().as_bytes())
}

/// A command that is started, fed and signalled, speaks and exits; a ping; a command that cannot be started.
fn session() -> Vec<u8> {
    let signal = frame(3, br#"{"type":"signal","pid":2147483647,"signal":2}"#);
    let stdin = [frame(0, b"some input"), frame(0, b"")].concat();
    [
        vec![SESSION],
        send(&[mux(WINDOW_UPDATE, SYN, 1, 1 << 20), data(0, 1, &exec(true, None))].concat()),
        vec![START, 0],
        send(&data(0, 1, &stdin)),
        vec![SPEAK, 100, SPEAK, 101],
        send(&[data(SYN, 3, &signal), mux(PING, SYN, 0, 7), data(SYN, 5, &frame(3, br#"{"type":"ping"}"#))].concat()),
        vec![EXIT, 0],
        send(&data(SYN, 7, &exec(false, None))),
        vec![START, 200],
    ]
    .concat()
}

/// Commands that are timed out, closed and reset.
fn cancelled_session() -> Vec<u8> {
    [
        vec![SESSION],
        send(
            &[data(SYN, 1, &exec(false, Some(1))), data(SYN, 3, &exec(true, None)), data(SYN, 5, &exec(false, None))]
                .concat(),
        ),
        vec![START, 0, START, 1, START, 2, SPEAK, 4, EXPIRE, 10, EXPIRE, 20],
        send(&[mux(WINDOW_UPDATE, FIN, 3, 0), mux(WINDOW_UPDATE, RST, 5, 0)].concat()),
        vec![EXIT, 3, EXIT, 2, EXIT, 0],
        send(&data(SYN, 7, &frame(3, br#"{"type":"poweroff"}"#))),
        send(b"PYROH that is not yamux"),
    ]
    .concat()
}

fn preamble() -> Vec<u8> {
    let packet = |kind: u8, payload: &[u8]| {
        [&b"PYRO"[..], &[kind], b"sixteen bytes at", &(payload.len() as u32).to_be_bytes(), payload].concat()
    };
    [&[PREAMBLE][..], b"stale", &packet(b'H', br#"{"generation":1}"#), &packet(b'S', b"{}")].concat()
}
