//! One request of the host, and what becomes of it.

use crate::command::{Command, Start};
use crate::commands::Commands;
use crate::frame::{self, Decoder, Tag};
use crate::message::{AgentMessage, ErrorCode, HostMessage};
use crate::poller::End;
use crate::program::StartError;
use crate::reap::Exit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    AwaitingRequest,
    /// The number of a command that ends with the stream.
    Executing(u64),
    /// The number of a kept command. It was started here if this is its `owner`, which alone sends its stdin.
    Following {
        number: u64,
        owner: bool,
    },
    /// Everything that is to be said is in the outbox.
    Closing,
}

pub struct Exchange {
    /// The stream.
    id: u32,
    pub decoder: Decoder,
    /// Frames that wait for the stream's window.
    pub outbox: Vec<u8>,
    pub state: State,
    announced: bool,
}

impl Exchange {
    pub fn new(id: u32) -> Self {
        let decoder = Decoder::default();
        Self { id, decoder, outbox: Vec::new(), state: State::AwaitingRequest, announced: false }
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

    /// Returns whether the guest is to be powered off.
    pub fn take_message(&mut self, json: &[u8], commands: &mut Commands) -> bool {
        let message = match HostMessage::parse(json) {
            Ok(message) => message,
            Err(reason) => {
                self.refuse(&reason, commands);
                return false;
            }
        };
        if self.state != State::AwaitingRequest {
            self.refuse("a message that has no place here", commands);
            return false;
        }
        let poweroff = message == HostMessage::Poweroff {};
        match self.answer(message, commands) {
            Ok(Some(answer)) => self.conclude(&answer),
            Ok(None) => {}
            Err(error) => self.fail(error),
        }
        poweroff
    }

    /// Does what is asked for, or begins to. Returns what there is to say at once.
    fn answer(&mut self, message: HostMessage, commands: &mut Commands) -> Result<Option<AgentMessage>, StartError> {
        Ok(Some(match message {
            HostMessage::Exec(exec) => {
                match &exec.keep {
                    Some(id) => {
                        let number = commands.start_kept(&exec, id)?;
                        self.follow(number, true, 0, commands);
                    }
                    None => self.state = State::Executing(commands.start(&exec)?),
                }
                return Ok(None);
            }
            HostMessage::Tool { tool } => {
                self.state = State::Executing(commands.start_tool(&tool)?);
                return Ok(None);
            }
            HostMessage::Attach { id, offset } => {
                let number = commands.kept.number(&id).ok_or_else(|| unknown(&id))?;
                self.follow(number, false, offset, commands);
                return Ok(None);
            }
            HostMessage::End { id } if commands.end(&id) => AgentMessage::Ok {},
            HostMessage::End { id } => return Err(unknown(&id)),
            HostMessage::Commands {} => AgentMessage::Commands { commands: commands.kept.states() },
            HostMessage::Signal { pid, signal } if commands.signal(pid, signal) => AgentMessage::Ok {},
            HostMessage::Signal { pid, .. } => {
                let message = format!("no command of this session runs as process {pid}");
                return Err(StartError { code: ErrorCode::NoSuchCommand, message });
            }
            HostMessage::Ping {} => AgentMessage::Pong {},
            HostMessage::Poweroff {} => AgentMessage::Ok {},
        }))
    }

    fn follow(&mut self, number: u64, owner: bool, offset: u64, commands: &mut Commands) {
        commands.kept.follow(number, self.id, offset);
        self.state = State::Following { number, owner };
    }

    /// Answers what cannot be understood, once, and has nothing more to do with what was running on the stream.
    pub fn refuse(&mut self, reason: &str, commands: &mut Commands) {
        if self.state != State::Closing {
            self.release(commands);
            self.fail(StartError { code: ErrorCode::BadRequest, message: reason.to_owned() });
        }
    }

    /// Nobody listens any more: a command that is not kept ends, and of one that is the stdin.
    pub fn release(&self, commands: &mut Commands) {
        match self.state {
            State::Executing(number) => commands.abandon(number),
            State::Following { number, owner } => {
                commands.kept.unfollow(number, self.id);
                if let Some(command) = commands.get(number).filter(|_| owner) {
                    command.close_stdin();
                }
            }
            State::AwaitingRequest | State::Closing => {}
        }
    }

    /// The host closed its half: it wants no more of a command but the news of its end, and of a kept one nothing.
    pub fn finished(&mut self, commands: &mut Commands) {
        match self.state {
            State::Executing(number) => commands.cancel(number),
            State::AwaitingRequest | State::Following { .. } => {
                self.release(commands);
                self.state = State::Closing;
            }
            State::Closing => {}
        }
    }

    /// Returns whether the data has a place on the stream; if so, it is credited when the command has taken it.
    pub fn feed(&self, data: &[u8], commands: &mut Commands) -> bool {
        let command = self.stdin(commands);
        command.is_some_and(|command| {
            command.feed_stdin(data);
            true
        })
    }

    pub fn end_stdin(&self, commands: &mut Commands) -> bool {
        let command = self.stdin(commands);
        command.is_some_and(|command| {
            command.end_stdin();
            true
        })
    }

    fn stdin<'a>(&self, commands: &'a mut Commands) -> Option<&'a mut Command> {
        match self.state {
            State::Executing(number) | State::Following { number, owner: true } => {
                commands.get(number).filter(|command| command.takes_stdin())
            }
            _ => None,
        }
    }

    /// Says what there is to say about the command. Returns how much stdin was dealt with since this was last done.
    pub fn advance(&mut self, commands: &mut Commands) -> usize {
        let (number, takes_stdin) = match self.state {
            State::Executing(number) => (number, true),
            State::Following { number, owner } => (number, owner),
            State::AwaitingRequest | State::Closing => return 0,
        };
        let Some(command) = commands.get(number) else {
            self.advance_without(number, commands);
            return 0;
        };
        let consumed = if takes_stdin { command.take_consumed() } else { 0 };
        match command.start() {
            Start::Pending => {}
            Start::Failed(error) => {
                let error = error.clone();
                self.release(commands);
                commands.drop_failed(number);
                self.fail(error);
            }
            Start::Done => {
                let pid = command.pid();
                self.announce(pid);
                self.conclude_if_over(commands);
            }
        }
        consumed
    }

    /// The command is over, unless it is not known at all any more.
    fn advance_without(&mut self, number: u64, commands: &mut Commands) {
        match commands.kept.pid(number) {
            Some(pid) => {
                self.announce(pid);
                self.conclude_if_over(commands);
            }
            None => self.fail(unknown("that was forgotten")),
        }
    }

    fn announce(&mut self, pid: i32) {
        if !std::mem::replace(&mut self.announced, true) {
            self.say(&AgentMessage::Started { pid });
        }
    }

    /// Reads output that is to be sent; says which it is and how much.
    pub fn read_output(&self, buffer: &mut [u8], commands: &mut Commands) -> Option<(End, usize)> {
        match self.state {
            State::Executing(number) if self.announced => commands.get(number)?.read_output(buffer),
            State::Following { number, .. } if self.announced => commands.kept.read(number, self.id, buffer),
            _ => None,
        }
    }

    pub fn conclude_if_over(&mut self, commands: &mut Commands) -> bool {
        let outcome = match self.state {
            State::Executing(number) => commands.get(number).and_then(|command| command.outcome()),
            State::Following { number, .. } => {
                commands.kept.conclusion(number, self.id).map(|ended| (ended.exit, ended.timed_out))
            }
            State::AwaitingRequest | State::Closing => None,
        };
        let Some((exit, timed_out)) = outcome.filter(|_| self.announced) else { return false };
        match self.state {
            State::Executing(number) => commands.forget(number),
            _ => self.release(commands),
        }
        let (exit_code, signal) = match exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        self.conclude(&AgentMessage::Exited { exit_code, signal, timed_out });
        true
    }
}

fn unknown(id: &str) -> StartError {
    StartError { code: ErrorCode::NoSuchCommand, message: format!("no kept command {id} is known") }
}
