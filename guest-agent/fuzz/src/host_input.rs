//! Feeds the agent with what a host could send, and looks at what it answers. The first byte of the input chooses what
//! is fed.

#![no_main]

mod guest;
mod listener;

use std::path::PathBuf;
use std::sync::LazyLock;

use guest::Guest;
use libfuzzer_sys::fuzz_target;
use pyro_agent::frame::{Decoder, Part, MAX_LEN};
use pyro_agent::message::HostMessage;
use pyro_agent::preamble::Scanner;
use pyro_agent::tools::patch::{apply, parse};
use pyro_agent::tools::{unpack, Place};

/// Where the outputs of kept commands go.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("pyro-agent-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of its own");
    folder
});

fuzz_target!(|input: &[u8]| {
    if let Some((choice, rest)) = input.split_first() {
        match choice % 8 {
            0 => frames(rest),
            1 => preamble(rest),
            2 => patch(rest),
            3 => archive(rest),
            _ => Guest::new(&FOLDER).live(rest),
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

/// A file, a NUL, and a patch for it: whatever they are, the patch applies or is refused.
fn patch(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (file, patch) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let patch = parse::normalized(patch);
    for file_patch in parse::parse(&patch).iter().flatten() {
        // Either outcome is fine; that there is one is the point.
        let _ = apply::apply(file, file_patch.hunks());
    }
}

/// An archive is unpacked or refused, and leaves nothing outside of its folder.
fn archive(input: &[u8]) {
    let root = FOLDER.join("archive");
    let folder = root.join("inside");
    std::fs::create_dir_all(&folder).expect("a folder");
    let place = Place::open(&folder, None, None, None).expect("an open folder");
    let _ = unpack::run(&place, "/workspace", &mut &*input, &mut std::io::sink());
    assert_eq!(std::fs::read_dir(&root).expect("the folder").count(), 1);
    std::fs::remove_dir_all(&root).expect("nothing that cannot be removed");
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
