//! One session with the host: requests on the streams of a multiplexer.

use std::collections::BTreeMap;

use crate::commands::Commands;
use crate::exchange::{Exchange, State};
use crate::frame::{self, Broken, Part, Tag};
use crate::mux::{self, Event, Mux, Violation};
use crate::outgoing::Outgoing;
use crate::poller::End;

/// Most output that one frame carries, in bytes. Large enough for the headers not to count, small enough to stay in
/// a processor's cache between the pipe and the channel.
const MAX_CHUNK: usize = 128 * 1024;

const OVERHEAD: usize = mux::HEADER_LEN + frame::HEADER_LEN;

/// Least room for a frame that is worth beginning.
const MIN_ROOM: usize = OVERHEAD + 4096;

/// Control frames that may wait before the agent stops to listen, in bytes.
const MAX_CONTROL: usize = 64 * 1024;

/// The session is over. `unread` was read, but not by this session: the next one may begin in it.
#[derive(Debug)]
pub struct Ended {
    pub reason: String,
    pub unread: Vec<u8>,
}

#[derive(Default)]
pub struct Session {
    mux: Mux,
    exchanges: BTreeMap<u32, Exchange>,
    /// The stream that was served last; the others come first the next time.
    served: u32,
    poweroff: bool,
}

impl Session {
    pub fn poweroff_requested(&self) -> bool {
        self.poweroff
    }

    /// Whether so much waits to be sent that it is better not to read on.
    pub fn is_congested(&self) -> bool {
        self.mux.waiting() > MAX_CONTROL
    }

    /// Takes what came from the host.
    pub fn receive(&mut self, mut input: &[u8], commands: &mut Commands) -> Result<(), Ended> {
        loop {
            let event = match self.mux.next(&mut input) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(()),
                Err(violation) => return Err(ended_by(&violation, input)),
            };
            if let Err(broken) = self.handle(event, commands) {
                return Err(Ended { reason: format!("{broken:?}"), unread: input.to_vec() });
            }
        }
    }

    /// Ends the session from this side: its commands are cancelled unless they are kept, and the host is told where it
    /// can be.
    pub fn close(mut self, commands: &mut Commands, outgoing: &mut Outgoing) {
        for exchange in self.exchanges.values() {
            exchange.release(commands);
        }
        self.mux.go_away();
        outgoing.push(self.mux.control());
    }

    fn handle(&mut self, event: Event<'_>, commands: &mut Commands) -> Result<(), Broken> {
        match event {
            Event::Opened(id) => {
                self.exchanges.insert(id, Exchange::new(id));
            }
            Event::Data(id, bytes) => return self.take_data(id, bytes, commands),
            Event::Finished(id) => {
                if let Some(exchange) = self.exchanges.get_mut(&id) {
                    exchange.finished(commands);
                }
            }
            Event::Reset(id) => {
                if let Some(exchange) = self.exchanges.remove(&id) {
                    exchange.release(commands);
                }
            }
        }
        Ok(())
    }

    fn take_data(&mut self, id: u32, mut bytes: &[u8], commands: &mut Commands) -> Result<(), Broken> {
        let mut credit = bytes.len();
        while let Some(exchange) = self.exchanges.get_mut(&id) {
            let Some(part) = exchange.decoder.next(&mut bytes)? else { break };
            match part {
                Part::Data(Tag::Stdin, data) if exchange.feed(data, commands) => credit -= data.len(),
                Part::Empty(Tag::Stdin) if exchange.end_stdin(commands) => {}
                Part::Message(json) => self.poweroff |= exchange.take_message(&json, commands),
                _ => exchange.refuse("a frame that has no place here", commands),
            }
        }
        self.mux.credit(id, credit);
        Ok(())
    }

    /// Puts what is to be sent into the outgoing buffer. Returns whether that is full.
    pub fn fill(&mut self, outgoing: &mut Outgoing, commands: &mut Commands) -> bool {
        let ids: Vec<u32> = self.exchanges.keys().copied().collect();
        // First, because it gives credit for stdin that was read: nothing would wake the agent to send that later.
        ids.iter().for_each(|id| self.advance(*id, commands));
        let control = self.mux.control();
        let sent = outgoing.push(control);
        control.drain(..sent);
        let first = ids.partition_point(|id| *id <= self.served);
        for id in ids[first..].iter().chain(&ids[..first]) {
            while outgoing.room() >= MIN_ROOM && self.send(*id, outgoing, commands) {
                self.served = *id;
            }
        }
        outgoing.room() < MIN_ROOM
    }

    /// Brings a stream up to date with its command.
    fn advance(&mut self, id: u32, commands: &mut Commands) {
        if let Some(exchange) = self.exchanges.get_mut(&id) {
            let consumed = exchange.advance(commands);
            self.mux.credit(id, consumed);
        }
    }

    /// Sends one frame of a stream, if it has anything to send and the window allows it.
    fn send(&mut self, id: u32, outgoing: &mut Outgoing, commands: &mut Commands) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return false };
        if !exchange.outbox.is_empty() || exchange.state == State::Closing {
            return self.send_outbox(id, outgoing);
        }
        self.send_output(id, outgoing, commands)
    }

    fn send_outbox(&mut self, id: u32, outgoing: &mut Outgoing) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return false };
        let room = self.mux.window(id).min(outgoing.room() - mux::HEADER_LEN);
        let count = exchange.outbox.len().min(room);
        let last = exchange.state == State::Closing && count == exchange.outbox.len();
        if count == 0 && !last {
            return false;
        }
        outgoing.push(&self.mux.data_header(id, count, last));
        outgoing.push(&exchange.outbox[..count]);
        exchange.outbox.drain(..count);
        if last {
            self.exchanges.remove(&id);
        }
        true
    }

    /// Reads output from its pipe straight to where it is sent from, behind the place of its headers.
    fn send_output(&mut self, id: u32, outgoing: &mut Outgoing, commands: &mut Commands) -> bool {
        let limit = self.mux.window(id).min(outgoing.room() - mux::HEADER_LEN).min(frame::HEADER_LEN + MAX_CHUNK);
        let exchange = self.exchanges.get_mut(&id).filter(|_| limit > frame::HEADER_LEN);
        let Some(exchange) = exchange else { return false };
        let space = &mut outgoing.space()[..mux::HEADER_LEN + limit];
        let Some((end, count)) = exchange.read_output(&mut space[OVERHEAD..], commands) else {
            return exchange.conclude_if_over(commands);
        };
        let tag = if end == End::Stdout { Tag::Stdout } else { Tag::Stderr };
        let length = frame::HEADER_LEN + count;
        space[..mux::HEADER_LEN].copy_from_slice(&self.mux.data_header(id, length, false));
        space[mux::HEADER_LEN..OVERHEAD].copy_from_slice(&frame::header(tag, count));
        outgoing.filled(mux::HEADER_LEN + length);
        true
    }
}

fn ended_by(violation: &Violation, input: &[u8]) -> Ended {
    Ended { reason: violation.reason.to_owned(), unread: [&violation.header, input].concat() }
}
