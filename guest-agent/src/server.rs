//! The loop that serves the host.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::commands::Commands;
use crate::console::report;
use crate::greeting::{Greeting, Identity};
use crate::limits;
use crate::outgoing::Outgoing;
use crate::poller::{Poller, Token};
use crate::reap::Children;
use crate::session::{Ended, Session};
use crate::spawn::Spawner;

/// A virtio-serial port gives 4 KiB at a time, a socket more.
const READ_SIZE: usize = 64 * 1024;

/// Reads from the channel before everything else gets its turn.
const READS_PER_TURN: usize = 64;

/// How long the answer to a poweroff request may take to get out.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why serving came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Poweroff,
    /// The host is gone for good, and its commands are over.
    Disconnected,
}

enum Conversation {
    Greeting(Greeting),
    Session(Session),
}

pub struct Server {
    channel: Channel,
    identity: Identity,
    poller: Rc<Poller>,
    children: Children,
    commands: Commands,
    conversation: Conversation,
    outgoing: Outgoing,
    scratch: Box<[u8]>,
    /// Whether the channel may have something to read.
    readable: bool,
    /// Whether the channel took no more the last time.
    blocked: bool,
    /// Whether something may be left to send although nothing announces it.
    unfinished: bool,
    disconnected: bool,
    poweroff: Option<Instant>,
}

impl Server {
    pub fn new(channel: Channel) -> io::Result<Self> {
        let poller = Rc::new(Poller::new()?);
        let children = Children::watch()?;
        poller.watch_input(&children, Token::Children)?;
        poller.watch_input(&channel, Token::Channel)?;
        let commands = Commands::new(Rc::clone(&poller), Spawner::new(limits::raise()?)?);
        Ok(Self {
            channel,
            identity: Identity::read()?,
            poller,
            children,
            commands,
            conversation: Conversation::Greeting(Greeting::default()),
            outgoing: Outgoing::default(),
            scratch: vec![0; READ_SIZE].into_boxed_slice(),
            readable: true,
            blocked: false,
            unfinished: false,
            disconnected: false,
            poweroff: None,
        })
    }

    /// Serves until there is a reason to stop. A fault in serving one session costs that session, not the guest.
    pub fn run(&mut self) -> End {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => report(format_args!("error: {error}")),
                Err(_) => self.end_session(),
            }
            if let Some(end) = self.end() {
                return end;
            }
        }
    }

    fn end(&self) -> Option<End> {
        let answered = |limit: Instant| self.disconnected || self.outgoing.is_empty() || Instant::now() >= limit;
        if self.poweroff.is_some_and(answered) {
            return Some(End::Poweroff);
        }
        let gone = self.disconnected && !self.channel.reconnects() && self.commands.is_empty();
        gone.then_some(End::Disconnected)
    }

    fn turn(&mut self) -> io::Result<()> {
        for token in self.poller.wait(self.patience())? {
            self.ready(token);
        }
        self.commands.expire(Instant::now());
        self.receive();
        self.send()
    }

    /// How long to wait for something to happen.
    fn patience(&mut self) -> Option<Duration> {
        if self.unfinished || (self.readable && !self.is_congested()) {
            return Some(Duration::ZERO);
        }
        let deadline = self.commands.next_deadline().into_iter().chain(self.poweroff).min();
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn ready(&mut self, token: Token) {
        match token {
            Token::Channel => {
                self.readable = true;
                self.blocked = false;
            }
            Token::Children => {
                self.children.collect(|pid, exit| self.commands.reaped(pid, exit));
                self.commands.check_groups();
            }
            Token::Command(number, end) => self.commands.ready(number, end),
            Token::Leftover(number) => self.commands.leftover_ready(number),
        }
    }

    /// Whether the host does not take what the agent has to say about what the host says.
    fn is_congested(&mut self) -> bool {
        match &mut self.conversation {
            Conversation::Greeting(_) => self.blocked,
            Conversation::Session(session) => session.is_congested(),
        }
    }

    fn receive(&mut self) {
        for _ in 0..READS_PER_TURN {
            if !self.readable || self.is_congested() {
                return;
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            match self.channel.read(&mut scratch) {
                Ok(0) => self.disconnect(),
                Ok(count) => {
                    self.disconnected = false;
                    self.take(&scratch[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.disconnect(),
            }
            self.scratch = scratch;
        }
    }

    /// Takes what the host said, through as many sessions as begin and end in it.
    fn take(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        loop {
            match &mut self.conversation {
                Conversation::Greeting(greeting) => {
                    let Some(rest) = greeting.receive(&bytes, &self.identity, &mut self.outgoing) else { return };
                    self.conversation = Conversation::Session(Session::default());
                    bytes = rest;
                }
                Conversation::Session(session) => {
                    let outcome = session.receive(&bytes, &mut self.commands);
                    if session.poweroff_requested() {
                        self.poweroff = self.poweroff.or(Instant::now().checked_add(FAREWELL));
                    }
                    let Err(Ended { reason, unread }) = outcome else { return };
                    report(format_args!("session ended: {reason}"));
                    self.end_session();
                    bytes = unread;
                }
            }
        }
    }

    fn end_session(&mut self) {
        let greeting = Conversation::Greeting(Greeting::default());
        if let Conversation::Session(session) = std::mem::replace(&mut self.conversation, greeting) {
            session.close(&mut self.commands, &mut self.outgoing);
        }
    }

    /// The host is gone, and with it whatever was to be sent. The port announces its return.
    fn disconnect(&mut self) {
        self.readable = false;
        self.disconnected = true;
        self.end_session();
        self.outgoing.clear();
    }

    fn send(&mut self) -> io::Result<()> {
        self.unfinished = false;
        let was_blocked = self.blocked;
        if !self.blocked {
            self.fill_and_write();
        }
        if self.blocked != was_blocked {
            self.poller.watch_both(&self.channel, Token::Channel, self.blocked)?;
        }
        Ok(())
    }

    fn fill_and_write(&mut self) {
        if let Conversation::Session(session) = &mut self.conversation {
            if self.outgoing.is_empty() {
                session.fill(&mut self.outgoing, &mut self.commands);
            }
        }
        while !self.outgoing.is_empty() {
            match self.channel.write(self.outgoing.pending()) {
                Ok(count) => {
                    self.outgoing.written(count);
                    self.unfinished = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Reading will tell that the host is gone; what it does not read is of no use.
                Err(_) => self.outgoing.clear(),
            }
        }
    }
}
