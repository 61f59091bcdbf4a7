//! Feeds the agent with what a host could send, and looks at what it answers. The first byte of the input chooses what
//! is fed.

#![no_main]

mod guest;
mod listener;

use guest::Guest;
use libfuzzer_sys::fuzz_target;
use pyro_agent::frame::{Decoder, Part, MAX_LEN};
use pyro_agent::message::HostMessage;
use pyro_agent::preamble::Scanner;

fuzz_target!(|input: &[u8]| {
    if let Some((choice, rest)) = input.split_first() {
        match choice % 4 {
            0 => frames(rest),
            1 => preamble(rest),
            _ => Guest::new().live(rest),
        }
    }
});

/// Frames and messages come out the same in whatever pieces they come in.
fn frames(input: &[u8]) {
    let whole = decode(input, input.len());
    for step in [1, 7] {
        assert_eq!(decode(input, step), whole);
    }
}

/// The tags with all data joined, the messages that were understood, and whether it went on to the end.
fn decode(input: &[u8], step: usize) -> (Vec<u8>, Vec<u8>, bool) {
    let (mut data, mut messages) = (Vec::new(), Vec::new());
    let mut decoder = Decoder::default();
    for mut chunk in input.chunks(step.max(1)) {
        loop {
            match decoder.next(&mut chunk) {
                Ok(Some(Part::Data(tag, bytes))) => {
                    data.extend(bytes.iter().flat_map(|byte| [tag as u8, *byte]));
                }
                Ok(Some(Part::Empty(tag))) => data.push(tag as u8),
                Ok(Some(Part::Message(json))) => {
                    assert!(json.len() <= MAX_LEN);
                    messages.push(u8::from(HostMessage::parse(&json).is_ok()));
                }
                Ok(None) => break,
                Err(_) => return (data, messages, false),
            }
        }
        assert!(chunk.is_empty());
    }
    (data, messages, true)
}

/// The scanner comes to an end, and keeps less than it was given.
fn preamble(input: &[u8]) {
    let mut scanner = Scanner::default();
    let mut found = 0;
    for chunk in input.chunks(64) {
        scanner.push(chunk);
        found += std::iter::from_fn(|| scanner.take_packet()).count();
    }
    assert!(found * 25 + scanner.into_rest().len() <= input.len());
}
