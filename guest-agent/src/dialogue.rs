//! What is said between host and agent: one session after the other, each opened by a greeting.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use crate::commands::Commands;
use crate::console::report;
use crate::greeting::{Begun, Greeting, Identity};
use crate::outgoing::Outgoing;
use crate::session::{Ended, Session};

/// How long the answer to a poweroff request may take to get out.
const FAREWELL: Duration = Duration::from_secs(1);

/// Answers to greetings that may wait before the agent stops to listen, in bytes.
const MAX_ANSWERS: usize = 4096;

enum Phase {
    Greeting(Greeting),
    Session(Session),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Greeting(Greeting::default())
    }
}

pub struct Dialogue {
    identity: Identity,
    phase: Phase,
    pub commands: Commands,
    pub outgoing: Outgoing,
    /// Until when the answer to a poweroff request is waited for.
    poweroff: Option<Instant>,
}

impl Dialogue {
    pub fn new(identity: Identity, commands: Commands) -> Self {
        Self { identity, phase: Phase::default(), commands, outgoing: Outgoing::default(), poweroff: None }
    }

    /// Takes what the host said, through as many sessions as begin and end in it.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut bytes = Cow::Borrowed(bytes);
        loop {
            match &mut self.phase {
                Phase::Greeting(greeting) => {
                    let begun = greeting.receive(&bytes, Some(&self.identity), &mut self.outgoing);
                    let Some(begun) = begun else { return };
                    bytes = Cow::Owned(self.begin(begun));
                }
                Phase::Session(session) => {
                    let outcome = session.receive(&bytes, &mut self.commands);
                    if session.poweroff_requested() {
                        self.poweroff = self.poweroff.or(Instant::now().checked_add(FAREWELL));
                    }
                    let Err(Ended { reason, unread }) = outcome else { return };
                    report(format_args!("session ended: {reason}"));
                    self.end_session();
                    bytes = Cow::Owned(unread);
                }
            }
        }
    }

    /// Begins a session; what the host said after its start is returned.
    fn begin(&mut self, begun: Begun) -> Vec<u8> {
        begun.confirm(&mut self.outgoing);
        self.phase = Phase::Session(Session::default());
        begun.rest
    }

    /// Begins with a session whose start came before there was a dialogue.
    pub fn resume(&mut self, begun: Begun) {
        let rest = self.begin(begun);
        self.take(&rest);
    }

    /// Ends the session, if there is one; its commands are cancelled.
    pub fn end_session(&mut self) {
        if let Phase::Session(session) = std::mem::take(&mut self.phase) {
            session.close(&mut self.commands, &mut self.outgoing);
        }
    }

    /// The host is gone, and with it whatever was to be sent.
    pub fn disconnect(&mut self) {
        self.end_session();
        self.outgoing.clear();
    }

    /// Puts what is to be sent into the outgoing buffer. Returns whether that is full.
    pub fn fill(&mut self) -> bool {
        match &mut self.phase {
            Phase::Greeting(_) => false,
            Phase::Session(session) => session.fill(&mut self.outgoing, &mut self.commands),
        }
    }

    /// Whether the host does not take what the agent has to say about what the host says.
    pub fn is_congested(&self) -> bool {
        match &self.phase {
            Phase::Greeting(_) => self.outgoing.pending().len() > MAX_ANSWERS,
            Phase::Session(session) => session.is_congested(),
        }
    }

    /// When something is due although nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.commands.next_deadline().into_iter().chain(self.poweroff).min()
    }

    pub fn poweroff_limit(&self) -> Option<Instant> {
        self.poweroff
    }
}
