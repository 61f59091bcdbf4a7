//! All commands of the guest, whichever session they belong to.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::command::{Command, Start};
use crate::kept::{no_workspace, Ended, Kept};
use crate::message::Exec;
use crate::pipes;
use crate::poller::{End, Poller, Token};
use crate::program::StartError;
use crate::reap::Exit;
use crate::spawn::{Spawn, Spawned};
use crate::tool_process::Work;
use crate::tools::request::Tool;
use crate::tools::Place;

struct Entry {
    command: Command,
    /// Nobody waits for its outcome.
    abandoned: bool,
}

pub struct Commands {
    poller: Rc<Poller>,
    spawner: Box<dyn Spawn>,
    /// Gone where the guest has no workspace.
    place: Option<Rc<Place>>,
    /// Those of `entries` that are kept, and others that are over.
    pub kept: Kept,
    entries: HashMap<u64, Entry>,
    /// Pipes whose command is over or cancelled but that a process may still write to. They are read and forgotten,
    /// because closing them would kill that process.
    leftovers: HashMap<u64, OwnedFd>,
    /// Numbers are never used again, so an event that comes late finds nothing.
    last_number: u64,
}

impl Commands {
    pub fn new(poller: Rc<Poller>, spawner: Box<dyn Spawn>, place: Option<Place>) -> Self {
        let place = place.map(Rc::new);
        let kept = Kept::new(place.clone());
        Self { poller, spawner, place, kept, entries: HashMap::new(), leftovers: HashMap::new(), last_number: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn start(&mut self, exec: &Exec) -> Result<u64, StartError> {
        let spawned = self.spawner.spawn(exec)?;
        self.take_in(spawned, exec.timeout_ms.map(Duration::from_millis))
    }

    /// Starts a command that is kept under this id.
    pub fn start_kept(&mut self, exec: &Exec, id: &str) -> Result<u64, StartError> {
        let log = self.kept.prepare(id)?;
        match self.start(exec) {
            Ok(number) => {
                let pid = self.get(number).map_or(0, |command| command.pid());
                self.kept.add(number, id, pid, log);
                Ok(number)
            }
            Err(error) => {
                self.kept.discard(id);
                Err(error)
            }
        }
    }

    pub fn start_tool(&mut self, tool: &Tool) -> Result<u64, StartError> {
        let place = self.place.as_ref().ok_or_else(no_workspace)?;
        let known = tool.command().and_then(|id| self.kept.known(id));
        let run = |stdin: &mut dyn Read, stdout: &mut dyn Write| tool.run(place, known.as_ref(), stdin, stdout);
        let spawned = self.spawner.spawn_tool(&Work { place, stdin: tool.takes_stdin(), run: &run })?;
        self.take_in(spawned, None)
    }

    fn take_in(&mut self, spawned: Spawned, limit: Option<Duration>) -> Result<u64, StartError> {
        let command = Command::new(spawned, limit);
        let number = self.new_number();
        let watched = self.watch(number, &command);
        self.entries.insert(number, Entry { command, abandoned: false });
        if let Err(errno) = watched {
            self.abandon(number);
            return Err(StartError::internal("watch a process", errno));
        }
        Ok(number)
    }

    fn new_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn watch(&self, number: u64, command: &Command) -> nix::Result<()> {
        command.descriptors().try_for_each(|(end, fd)| match end {
            End::Stdin => self.poller.watch_output(fd, Token::Command(number, end)),
            _ => self.poller.watch_input(fd, Token::Command(number, end)),
        })
    }

    pub fn get(&mut self, number: u64) -> Option<&mut Command> {
        self.entries.get_mut(&number).map(|entry| &mut entry.command)
    }

    /// Signals the group of the command that runs as `pid`; false if there is none whose outcome is wanted.
    pub fn signal(&self, pid: i32, signal: i32) -> bool {
        let wanted = |entry: &&Entry| !entry.abandoned && entry.command.pid() == pid && !entry.command.has_exited();
        self.entries.values().find(wanted).map(|entry| entry.command.kill(signal)).is_some()
    }

    pub fn ready(&mut self, number: u64, end: End) {
        if let Some(command) = self.get(number) {
            command.ready(end);
        }
    }

    /// Notes the end of a process, if it is a command's. The group of any command may have lost its last one, too.
    pub fn reaped(&mut self, pid: i32, exit: Exit) {
        for entry in self.entries.values_mut() {
            if entry.command.pid() == pid && !entry.command.has_exited() {
                entry.command.exited(exit);
            }
        }
    }

    /// To be called after children were collected.
    pub fn check_groups(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.command.check_group());
        self.sweep();
    }

    /// The earliest time at which `expire` has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.command.deadline()).min()
    }

    pub fn expire(&mut self, now: Instant) {
        self.entries.values_mut().for_each(|entry| entry.command.expire(now));
        self.sweep();
    }

    /// Ends a command whose outcome is still wanted, but whose output is not.
    pub fn cancel(&mut self, number: u64) {
        if let Some(command) = self.get(number) {
            command.cancel();
            let outputs: Vec<_> = command.take_outputs().collect();
            outputs.into_iter().for_each(|fd| self.leave(fd));
        }
    }

    /// Ends a command of which nothing is wanted any more.
    pub fn abandon(&mut self, number: u64) {
        self.cancel(number);
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.abandoned = true;
        }
        self.sweep();
    }

    /// Forgets a command that is over.
    pub fn forget(&mut self, number: u64) {
        if let Some(mut entry) = self.entries.remove(&number) {
            entry.command.take_outputs().for_each(|fd| self.leave(fd));
        }
    }

    /// Moves what kept commands have written into their logs, and notes which of them are over.
    pub fn pump(&mut self) {
        for number in self.kept.running().iter().copied().collect::<Vec<_>>() {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            if matches!(entry.command.start(), Start::Failed(_)) {
                self.drop_failed(number);
                continue;
            }
            self.kept.pump(number, &mut entry.command);
            if let Some((exit, timed_out)) = entry.command.outcome() {
                let cancelled = entry.command.was_cancelled();
                self.kept.finish(number, Ended { exit, timed_out, cancelled });
                self.forget(number);
            }
        }
    }

    /// Forgets a kept command that did not start, once everybody who follows it was told.
    pub fn drop_failed(&mut self, number: u64) {
        let failed = |entry: &Entry| matches!(entry.command.start(), Start::Failed(_));
        if self.entries.get(&number).is_some_and(failed) && !self.kept.is_followed(number) {
            self.kept.remove(number);
            self.abandon(number);
        }
    }

    /// Whether `pump` would find something to do that nothing will announce.
    pub fn wants_pump(&self) -> bool {
        let wants =
            |number: &u64| self.entries.get(number).is_some_and(|entry| self.kept.wants(*number, &entry.command));
        self.kept.running().iter().any(wants)
    }

    /// Begins to end a kept command; false if none is known by that id.
    pub fn end(&mut self, id: &str) -> bool {
        let Some(number) = self.kept.number(id) else { return false };
        if let Some(command) = self.get(number) {
            command.finish();
        }
        true
    }

    /// Begins to end all kept commands.
    pub fn end_kept(&mut self) {
        for number in self.kept.running() {
            if let Some(entry) = self.entries.get_mut(number) {
                entry.command.finish();
            }
        }
    }

    fn sweep(&mut self) {
        let over = |entry: &mut Entry| {
            entry.abandoned && (entry.command.outcome().is_some() || matches!(entry.command.start(), Start::Failed(_)))
        };
        self.entries.retain(|_, entry| !over(entry));
    }

    fn leave(&mut self, fd: OwnedFd) {
        let number = self.new_number();
        // A pipe that cannot be watched is closed; there is no better way to deal with it.
        if pipes::discard(&fd) && self.poller.keep_watching(&fd, Token::Leftover(number)).is_ok() {
            self.leftovers.insert(number, fd);
        }
    }

    pub fn leftover_ready(&mut self, number: u64) {
        if self.leftovers.get(&number).is_some_and(|fd| !pipes::discard(fd)) {
            self.leftovers.remove(&number);
        }
    }
}
