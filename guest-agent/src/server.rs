//! The loop that serves the host.

use std::io;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::commands::Commands;
use crate::console::report;
use crate::dialogue::Dialogue;
use crate::greeting::{Begun, Identity};
use crate::limits::{self, CommandLimits};
use crate::listener::Listener;
use crate::poller::{Poller, Token};
use crate::presence::Presence;
use crate::reap::Children;
use crate::scheduling;
use crate::spawn::Spawner;
use crate::tools::Place;

/// A virtio-serial port gives 4 KiB at a time, a socket more.
const READ_SIZE: usize = 64 * 1024;

/// Reads from the channel before everything else gets its turn.
const READS_PER_TURN: usize = 64;

/// Why serving came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Poweroff,
    /// The host is gone for good, and its commands are over.
    Disconnected,
}

/// What a server stands on, whomever it serves. Nothing may have been started before it is laid.
pub struct Groundwork {
    poller: Rc<Poller>,
    children: Children,
    limits: CommandLimits,
}

impl Groundwork {
    pub fn lay() -> io::Result<Self> {
        scheduling::yield_to_commands()?;
        let poller = Rc::new(Poller::new()?);
        let children = Children::watch()?;
        poller.watch_input(&children, Token::Children)?;
        Ok(Self { poller, children, limits: limits::raise()? })
    }
}

pub struct Server {
    channel: Channel,
    poller: Rc<Poller>,
    children: Children,
    dialogue: Dialogue,
    scratch: Box<[u8]>,
    /// Whether the channel may have something to read.
    readable: bool,
    /// Whether the channel took no more the last time.
    blocked: bool,
    /// Whether there may be more to send although nothing will announce it.
    unsent: bool,
    /// The same, or there may be output of kept commands to be moved into their logs.
    unfinished: bool,
    host: Presence,
    /// Where the next channel comes from when the host is gone, and whether there may be one.
    listener: Option<Listener>,
    has_caller: bool,
}

impl Server {
    /// Serves on `channel`. Without `place` there are no kept commands and no tools; `workspace` is where `/workspace`
    /// is, outside of a guest.
    pub fn new(
        groundwork: Groundwork,
        channel: Channel,
        place: Option<Place>,
        workspace: Option<PathBuf>,
    ) -> io::Result<Self> {
        let Groundwork { poller, children, limits } = groundwork;
        poller.watch_input(&channel, Token::Channel)?;
        let spawner = Spawner::new(limits, workspace)?;
        let commands = Commands::new(Rc::clone(&poller), Box::new(spawner), place);
        Ok(Self {
            host: Presence::at_first(channel.is_socket()),
            channel,
            poller,
            children,
            dialogue: Dialogue::new(Identity::read()?, commands),
            scratch: vec![0; READ_SIZE].into_boxed_slice(),
            readable: true,
            blocked: false,
            unsent: false,
            unfinished: false,
            listener: None,
            has_caller: false,
        })
    }

    /// Begins with a session whose start came before there was a server.
    pub fn resume(&mut self, begun: Begun) {
        self.host = Presence::Here;
        self.dialogue.resume(begun);
    }

    /// Takes a new channel from there whenever the host is gone.
    pub fn listen(&mut self, listener: Listener) -> io::Result<()> {
        listener.stop_waiting()?;
        self.poller.watch_input(&listener, Token::Listener)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Serves until there is a reason to stop. A fault in serving a session costs that session, not the guest.
    pub fn run(&mut self) -> End {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => report(format_args!("error: {error}")),
                Err(_) => self.dialogue.end_session(),
            }
            if let Some(end) = self.end() {
                return end;
            }
        }
    }

    fn end(&self) -> Option<End> {
        let all_said = self.is_alone() || (self.dialogue.outgoing.is_empty() && !self.unsent);
        if self.dialogue.poweroff_limit().is_some_and(|limit| all_said || Instant::now() >= limit) {
            return Some(End::Poweroff);
        }
        let gone = self.is_alone() && !self.channel.reconnects() && self.dialogue.commands.is_empty();
        gone.then_some(End::Disconnected)
    }

    fn turn(&mut self) -> io::Result<()> {
        for token in self.poller.wait(self.patience())? {
            self.ready(token);
        }
        self.dialogue.commands.expire(Instant::now());
        self.reconnect()?;
        self.receive();
        self.send()
    }

    /// How long to wait for something to happen.
    fn patience(&self) -> Option<Duration> {
        if self.unfinished || (self.is_alone() && self.has_caller) || (self.readable && !self.dialogue.is_congested()) {
            return Some(Duration::ZERO);
        }
        self.dialogue.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn ready(&mut self, token: Token) {
        let commands = &mut self.dialogue.commands;
        match token {
            Token::Channel => {
                self.readable = true;
                self.blocked = false;
            }
            Token::Children => {
                self.children.collect(|pid, exit| commands.reaped(pid, exit));
                commands.check_groups();
            }
            Token::Listener => self.has_caller = true,
            Token::Command(number, end) => commands.ready(number, end),
            Token::Leftover(number) => commands.leftover_ready(number),
        }
    }

    fn is_alone(&self) -> bool {
        self.host == Presence::Gone
    }

    fn reconnect(&mut self) -> io::Result<()> {
        let Some(listener) = self.listener.as_ref().filter(|_| self.is_alone() && self.has_caller) else {
            return Ok(());
        };
        match listener.accept() {
            Ok(socket) => {
                self.channel = Channel::from_socket(socket, true)?;
                self.poller.watch_input(&self.channel, Token::Channel)?;
                (self.readable, self.blocked, self.host) = (true, false, Presence::Here);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.has_caller = false,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn receive(&mut self) {
        for _ in 0..READS_PER_TURN {
            if !self.readable || self.dialogue.is_congested() {
                return;
            }
            match self.channel.read(&mut self.scratch) {
                Ok(count) if count > 0 => {
                    self.host.speaks();
                    self.dialogue.take(&self.scratch[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                nothing => self.pause(nothing),
            }
        }
    }

    /// Nothing more is to be read until the channel announces something: more words of the host, or its return.
    fn pause(&mut self, nothing: io::Result<usize>) {
        self.readable = false;
        match nothing {
            Ok(_) => {
                self.host.ends();
                if self.is_alone() {
                    self.disconnect();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.host.is_certain(),
            Err(_) => self.disconnect(),
        }
    }

    fn disconnect(&mut self) {
        self.host = Presence::Gone;
        self.dialogue.disconnect();
        if !self.channel.reconnects() {
            self.dialogue.commands.end_kept();
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.dialogue.commands.pump();
        let was_blocked = self.blocked;
        let had_pending = !self.dialogue.outgoing.is_empty();
        let is_full = !had_pending && self.dialogue.fill();
        self.write();
        self.unsent = !self.blocked && (had_pending || is_full);
        self.unfinished = self.unsent || self.dialogue.commands.wants_pump();
        if self.blocked != was_blocked {
            self.poller.watch_both(&self.channel, Token::Channel, self.blocked)?;
        }
        Ok(())
    }

    fn write(&mut self) {
        let outgoing = &mut self.dialogue.outgoing;
        while !self.blocked && !outgoing.is_empty() {
            match self.channel.write(outgoing.pending()) {
                Ok(count) => {
                    outgoing.written(count);
                    self.host.is_certain();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Reading will tell that the host is gone; what it does not take is of no use.
                Err(_) => outgoing.clear(),
            }
        }
    }
}
