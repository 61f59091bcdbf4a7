//! `/init` of a guest that has turned against its host, for tests only: it opens the channel as the agent would and then
//! breaks the rules in the way that the file `/hostile` of its initramfs names.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use pyro_agent::console::{report, Failure, Result};
use pyro_agent::poller::{Poller, Token};
use pyro_agent::preamble::{encode, Empty, Kind, Packet, Reply, Scanner, GENERATION};
use pyro_agent::uevent::Uevents;
use pyro_agent::{channel, frame, modules, poweroff, system};

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
    let Err(failure) = run();
    report(format_args!("fatal: {failure}"));
    poweroff::reset();
}

fn run() -> Result<Infallible> {
    system::mount_kernel_file_systems()?;
    let mode = fs::read_to_string("/hostile").map_err(|error| Failure::new("read /hostile", error))?;
    let uevents = Uevents::open()?;
    modules::load_listed(Path::new("/modules"))?;
    let mut port = Port::open(&uevents)?;
    if mode != "noise" {
        port.greet()?;
    }
    match mode.as_str() {
        "noise" => port.flood(&noise()),
        "pings" => port.flood(&mux_header(PING, SYN, 0, 7)),
        "uninvited" => port.flood(&mux_header(WINDOW_UPDATE, SYN, 2, 0)),
        "huge" => port.flood(&mux_header(DATA, NO_FLAGS, STREAM, u32::MAX)),
        "overrun" => port.flood(&data(&[0; CHUNK])),
        "oversized" => port.flood(&data(&[1, 0xff, 0xff, 0xff, 0xff])),
        "babble" => port.flood(&data(&message(&"[".repeat(CHUNK / 2)))),
        "unstoppable" => port.run_for_ever(),
        "deaf" => port.wait_for_ever(),
        _ => Err(Failure::new("find out what to do", "no such way to be hostile")),
    }
}

/// The channel, for reading and writing that waits.
struct Port {
    file: File,
    poller: Poller,
}

impl Port {
    fn open(uevents: &Uevents) -> Result<Self> {
        let failed = |errno| Failure::new("set up the port", errno);
        let file = channel::open_port(uevents)?.into_file();
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(failed)?;
        let poller = Poller::new().map_err(failed)?;
        poller.watch_input(&file, Token::Channel).map_err(failed)?;
        Ok(Self { file, poller })
    }

    /// The handshake and the beginning of the first stream, by the rules.
    fn greet(&mut self) -> Result<()> {
        let mut scanner = Scanner::default();
        loop {
            let mut byte = [0];
            self.receive(&mut byte)?;
            scanner.push(&byte);
            match scanner.take_packet() {
                None => {}
                Some(Packet::Hello { nonce, .. }) => {
                    let reply = Reply { generation: GENERATION, agent_version: "0".into(), boot_id: "0".into() };
                    self.send(&encode(Kind::Reply, &nonce, &reply))?;
                }
                Some(Packet::Start { nonce }) => {
                    self.send(&encode(Kind::Started, &nonce, &Empty {}))?;
                    return self.receive(&mut [0; MUX_HEADER]);
                }
            }
        }
    }

    fn flood(&mut self, bytes: &[u8]) -> Result<Infallible> {
        let many = bytes.repeat(CHUNK.div_ceil(bytes.len()));
        loop {
            self.send(&many)?;
        }
    }

    /// Says that a command has started, and then neither ends it nor listens.
    fn run_for_ever(&mut self) -> Result<Infallible> {
        self.send(&data(&message(r#"{"type":"started","pid":2}"#)))?;
        self.wait_for_ever()
    }

    fn wait_for_ever(&mut self) -> Result<Infallible> {
        loop {
            self.receive(&mut [0; CHUNK])?;
        }
    }

    /// Waits until the host has sent enough. While it is not connected, reading does not wait but yields nothing.
    fn receive(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            match self.file.read(buffer).map_err(|error| Failure::new("read from the host", error))? {
                0 => drop(self.poller.wait(None).map_err(|errno| Failure::new("wait for the host", errno))?),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Failure::new("write to the host", error))
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
