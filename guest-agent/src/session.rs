//! One session with the host: requests on the streams of a multiplexer.

use std::collections::BTreeMap;

use crate::command::Start;
use crate::commands::Commands;
use crate::frame::{self, Broken, Decoder, Part, Tag};
use crate::message::{AgentMessage, ErrorCode, Exec, HostMessage};
use crate::mux::{self, Event, Mux, Violation};
use crate::outgoing::Outgoing;
use crate::poller::End;
use crate::reap::Exit;
use crate::spawn::StartError;

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

#[derive(Debug, PartialEq, Eq)]
enum State {
    AwaitingRequest,
    /// The number of the command.
    Executing(u64),
    /// Everything that is to be said is in the outbox.
    Closing,
}

struct Exchange {
    decoder: Decoder,
    /// Frames that wait for the stream's window.
    outbox: Vec<u8>,
    state: State,
    announced: bool,
}

impl Exchange {
    fn new() -> Self {
        Self { decoder: Decoder::default(), outbox: Vec::new(), state: State::AwaitingRequest, announced: false }
    }

    fn say(&mut self, message: &AgentMessage) {
        let payload = message.encode();
        self.outbox.extend_from_slice(&frame::header(Tag::Message, payload.len()));
        self.outbox.extend_from_slice(&payload);
    }

    /// Says the last message of the stream.
    fn conclude(&mut self, message: &AgentMessage) {
        self.say(message);
        self.state = State::Closing;
    }

    fn fail(&mut self, error: StartError) {
        self.conclude(&AgentMessage::Error { code: error.code, message: error.message });
    }
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

    /// Ends the session from this side: its commands are cancelled, and the host is told where it can be.
    pub fn close(mut self, commands: &mut Commands, outgoing: &mut Outgoing) {
        for exchange in self.exchanges.values() {
            if let State::Executing(number) = exchange.state {
                commands.abandon(number);
            }
        }
        self.mux.go_away();
        outgoing.push(self.mux.control());
    }

    fn handle(&mut self, event: Event<'_>, commands: &mut Commands) -> Result<(), Broken> {
        match event {
            Event::Opened(id) => {
                self.exchanges.insert(id, Exchange::new());
            }
            Event::Data(id, bytes) => return self.take_data(id, bytes, commands),
            Event::Finished(id) => self.finished(id, commands),
            Event::Reset(id) => {
                if let Some(Exchange { state: State::Executing(number), .. }) = self.exchanges.remove(&id) {
                    commands.abandon(number);
                }
            }
        }
        Ok(())
    }

    /// The host closed its half: it wants no more of a command but the news of its end.
    fn finished(&mut self, id: u32, commands: &mut Commands) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match exchange.state {
            State::AwaitingRequest => exchange.state = State::Closing,
            State::Executing(number) => commands.cancel(number),
            State::Closing => {}
        }
    }

    fn take_data(&mut self, id: u32, mut bytes: &[u8], commands: &mut Commands) -> Result<(), Broken> {
        let mut credit = bytes.len();
        while let Some(exchange) = self.exchanges.get_mut(&id) {
            let Some(part) = exchange.decoder.next(&mut bytes)? else { break };
            match part {
                Part::Data(Tag::Stdin, data) if feed(exchange, data, commands) => credit -= data.len(),
                Part::Empty(Tag::Stdin) if end_stdin(exchange, commands) => {}
                Part::Message(json) => self.poweroff |= take_message(exchange, &json, commands),
                _ => refuse(exchange, "a frame that has no place here", commands),
            }
        }
        self.mux.credit(id, credit);
        Ok(())
    }

    /// Puts what is to be sent into the outgoing buffer. Returns whether that is full.
    pub fn fill(&mut self, outgoing: &mut Outgoing, commands: &mut Commands) -> bool {
        let control = self.mux.control();
        let sent = outgoing.push(control);
        control.drain(..sent);
        let ids: Vec<u32> = self.exchanges.keys().copied().collect();
        let first = ids.partition_point(|id| *id <= self.served);
        for id in ids[first..].iter().chain(&ids[..first]) {
            self.advance(*id, commands);
            while outgoing.room() >= MIN_ROOM && self.send(*id, outgoing, commands) {
                self.served = *id;
            }
        }
        outgoing.room() < MIN_ROOM
    }

    /// Brings a stream up to date with its command.
    fn advance(&mut self, id: u32, commands: &mut Commands) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let State::Executing(number) = exchange.state else { return };
        let Some(command) = commands.get(number) else { return };
        self.mux.credit(id, command.take_consumed());
        match command.start() {
            Start::Pending => return,
            Start::Failed(error) => {
                exchange.fail(error.clone());
                commands.abandon(number);
                return;
            }
            Start::Done => {}
        }
        if !exchange.announced {
            exchange.announced = true;
            exchange.say(&AgentMessage::Started { pid: command.pid() });
        }
        conclude_if_over(exchange, number, commands);
    }

    /// Sends one frame of a stream, if it has anything to send and the window allows it.
    fn send(&mut self, id: u32, outgoing: &mut Outgoing, commands: &mut Commands) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return false };
        if !exchange.outbox.is_empty() || exchange.state == State::Closing {
            return self.send_outbox(id, outgoing);
        }
        match exchange.state {
            State::Executing(number) if exchange.announced => self.send_output(id, number, outgoing, commands),
            _ => false,
        }
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
    fn send_output(&mut self, id: u32, number: u64, outgoing: &mut Outgoing, commands: &mut Commands) -> bool {
        let limit = self.mux.window(id).min(outgoing.room() - mux::HEADER_LEN).min(frame::HEADER_LEN + MAX_CHUNK);
        let Some(command) = commands.get(number).filter(|_| limit > frame::HEADER_LEN) else { return false };
        let space = &mut outgoing.space()[..mux::HEADER_LEN + limit];
        let Some((end, count)) = command.read_output(&mut space[OVERHEAD..]) else {
            return self.conclude_after_output(id, number, commands);
        };
        let tag = if end == End::Stdout { Tag::Stdout } else { Tag::Stderr };
        let length = frame::HEADER_LEN + count;
        space[..mux::HEADER_LEN].copy_from_slice(&self.mux.data_header(id, length, false));
        space[mux::HEADER_LEN..OVERHEAD].copy_from_slice(&frame::header(tag, count));
        outgoing.filled(mux::HEADER_LEN + length);
        true
    }

    fn conclude_after_output(&mut self, id: u32, number: u64, commands: &mut Commands) -> bool {
        let exchange = self.exchanges.get_mut(&id);
        exchange.is_some_and(|exchange| conclude_if_over(exchange, number, commands))
    }
}

fn ended_by(violation: &Violation, input: &[u8]) -> Ended {
    Ended { reason: violation.reason.to_owned(), unread: [&violation.header, input].concat() }
}

fn conclude_if_over(exchange: &mut Exchange, number: u64, commands: &mut Commands) -> bool {
    let Some((exit, timed_out)) = commands.get(number).and_then(|command| command.outcome()) else { return false };
    let (exit_code, signal) = match exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
    };
    exchange.conclude(&AgentMessage::Exited { exit_code, signal, timed_out });
    commands.forget(number);
    true
}

/// Returns whether the data has a place on the stream; if so, it is credited when the command has taken it.
fn feed(exchange: &Exchange, data: &[u8], commands: &mut Commands) -> bool {
    let command = stdin_of(exchange, commands);
    command.is_some_and(|command| {
        command.feed_stdin(data);
        true
    })
}

fn end_stdin(exchange: &Exchange, commands: &mut Commands) -> bool {
    let command = stdin_of(exchange, commands);
    command.is_some_and(|command| {
        command.end_stdin();
        true
    })
}

fn stdin_of<'a>(exchange: &Exchange, commands: &'a mut Commands) -> Option<&'a mut crate::command::Command> {
    match exchange.state {
        State::Executing(number) => commands.get(number).filter(|command| command.takes_stdin()),
        _ => None,
    }
}

/// Returns whether the guest is to be powered off.
fn take_message(exchange: &mut Exchange, json: &[u8], commands: &mut Commands) -> bool {
    let message = match HostMessage::parse(json) {
        Ok(message) => message,
        Err(reason) => {
            refuse(exchange, &reason, commands);
            return false;
        }
    };
    match (message, &exchange.state) {
        (HostMessage::Exec(exec), State::AwaitingRequest) => execute(exchange, &exec, commands),
        (HostMessage::Ping {}, State::AwaitingRequest) => exchange.conclude(&AgentMessage::Pong {}),
        (HostMessage::Poweroff {}, State::AwaitingRequest) => {
            exchange.conclude(&AgentMessage::Ok {});
            return true;
        }
        (HostMessage::Signal { pid, signal }, State::AwaitingRequest) => pass_signal(exchange, pid, signal, commands),
        _ => refuse(exchange, "a message that has no place here", commands),
    }
    false
}

fn execute(exchange: &mut Exchange, exec: &Exec, commands: &mut Commands) {
    match commands.start(exec) {
        Ok(number) => exchange.state = State::Executing(number),
        Err(error) => exchange.fail(error),
    }
}

fn pass_signal(exchange: &mut Exchange, pid: i32, signal: i32, commands: &Commands) {
    if commands.signal(pid, signal) {
        exchange.conclude(&AgentMessage::Ok {});
    } else {
        let message = format!("no command of this session runs as process {pid}");
        exchange.fail(StartError { code: ErrorCode::NoSuchCommand, message });
    }
}

/// Answers what cannot be understood, once, and ends the stream with what was running on it.
fn refuse(exchange: &mut Exchange, reason: &str, commands: &mut Commands) {
    match exchange.state {
        State::Closing => return,
        State::Executing(number) => commands.abandon(number),
        State::AwaitingRequest => {}
    }
    exchange.fail(StartError { code: ErrorCode::BadRequest, message: reason.to_owned() });
}
