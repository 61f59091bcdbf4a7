//! Writes inputs for the fuzzer to begin with into the directory that it is given: every example of the protocol, and a
//! session with a command that does what commands do.

// What is built with the fuzzer's instrumentation has to be linked with the fuzzer.
use libfuzzer_sys as _;

use std::path::PathBuf;

use serde_json::{json, Value};

const FRAMES: u8 = 0;
const PREAMBLE: u8 = 1;
const PATCH: u8 = 2;
const ARCHIVE: u8 = 3;
const SESSION: u8 = 4;

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
    let mut seeds =
        vec![session(), cancelled_session(), kept_session(), tool_session(), preamble(), patch(), archive()];
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

fn exec(stdin: bool, timeout_ms: Option<u64>, keep: Option<&str>) -> Vec<u8> {
    request(&json!({
        "type": "exec", "argv": ["x"], "env": {}, "cwd": "/", "stdin": stdin, "timeout_ms": timeout_ms, "keep": keep
    }))
}

fn request(message: &Value) -> Vec<u8> {
    frame(3, message.to_string().as_bytes())
}

/// A command that is kept through the end of its stream, followed, listed and ended, and one that cannot be started.
fn kept_session() -> Vec<u8> {
    let attach = |offset: u32| request(&json!({"type": "attach", "id": "x-1", "offset": offset}));
    let end = request(&json!({"type": "end", "id": "x-1"}));
    [
        vec![SESSION],
        send(&data(SYN, 1, &exec(true, None, Some("x-1")))),
        vec![START, 0, SPEAK, 100, SPEAK, 101],
        send(&[mux(WINDOW_UPDATE, RST, 1, 0), data(SYN, 3, &attach(0)), data(SYN, 5, &attach(100))].concat()),
        vec![SPEAK, 20, SPEAK, 21, SPEAK, 22],
        send(&[data(SYN, 7, &end), data(SYN, 9, &request(&json!({"type": "commands"})))].concat()),
        vec![EXPIRE, 2, EXIT, 0],
        send(&[data(SYN, 11, &attach(7)), data(SYN, 13, &exec(false, Some(5), Some("x-2")))].concat()),
        vec![START, 200, EXIT, 0],
    ]
    .concat()
}

/// A tool that is fed and speaks, and one that is cancelled.
fn tool_session() -> Vec<u8> {
    let tool = |tool: Value| request(&json!({"type": "tool", "tool": tool}));
    [
        vec![SESSION],
        send(&data(SYN, 1, &tool(json!({"name": "write", "path": "/workspace/a"})))),
        vec![START, 0],
        send(&data(0, 1, &[frame(0, b"text"), frame(0, b"")].concat())),
        vec![SPEAK, 100, EXIT, 0],
        send(&data(SYN, 3, &tool(json!({"name": "output", "id": "x", "offset": 0, "limit": 9, "grep": "a"})))),
        vec![START, 0],
        send(&mux(WINDOW_UPDATE, FIN, 3, 0)),
        vec![EXIT, 1],
    ]
    .concat()
}

/// A command that is started, fed and signalled, speaks and exits; a ping; a command that cannot be started.
fn session() -> Vec<u8> {
    let signal = frame(3, br#"{"type":"signal","pid":2147483647,"signal":2}"#);
    let stdin = [frame(0, b"some input"), frame(0, b"")].concat();
    [
        vec![SESSION],
        send(&[mux(WINDOW_UPDATE, SYN, 1, 1 << 20), data(0, 1, &exec(true, None, None))].concat()),
        vec![START, 0],
        send(&data(0, 1, &stdin)),
        vec![SPEAK, 100, SPEAK, 101],
        send(&[data(SYN, 3, &signal), mux(PING, SYN, 0, 7), data(SYN, 5, &frame(3, br#"{"type":"ping"}"#))].concat()),
        vec![EXIT, 0],
        send(&data(SYN, 7, &exec(false, None, None))),
        vec![START, 200],
    ]
    .concat()
}

/// Commands that are timed out, closed and reset.
fn cancelled_session() -> Vec<u8> {
    [
        vec![SESSION],
        send(
            &[
                data(SYN, 1, &exec(false, Some(1), None)),
                data(SYN, 3, &exec(true, None, None)),
                data(SYN, 5, &exec(false, None, None)),
            ]
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
    [&[PREAMBLE][..], b"stale", &packet(b'H', br#"{"generation":2}"#), &packet(b'S', b"{}")].concat()
}

fn patch() -> Vec<u8> {
    let file = "one\ntwo\nthree\nfour\n";
    let patch = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@ x\n one\n-two\n+2\n three\n\\ No newline at end of file\n";
    [&[PATCH][..], file.as_bytes(), &[0], patch.as_bytes()].concat()
}

/// A file of five bytes, and the end.
fn archive() -> Vec<u8> {
    let mut header = [0; 512];
    let mut set = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    set(0, "a/b");
    set(100, "0000644\0");
    set(108, "0000000\0");
    set(116, "0000000\0");
    set(124, "00000000005\0");
    set(136, "00000000007\0");
    set(148, "        ");
    set(156, "0");
    set(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut content = [0; 512];
    content[..5].copy_from_slice(b"text\n");
    [&[ARCHIVE][..], &header, &content, &[0; 1024]].concat()
}
