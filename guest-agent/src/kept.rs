//! Commands that are kept: known by an id, with their output in a log, whoever listens.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use nix::errno::Errno;

use crate::command::{Command, Start};
use crate::log::Log;
use crate::message::{CommandState, ErrorCode};
use crate::pipes::LARGE_PIPE_SIZE;
use crate::poller::End;
use crate::program::StartError;
use crate::reap::Exit;
use crate::shelf::Shelf;
use crate::switches::Switches;
use crate::tools::Place;

/// Commands that are remembered although they are over.
const MOST_OVER: usize = 1024;

/// Commands that may run at a time.
const MOST_RUNNING: usize = 1024;

/// How far the slowest follower may be behind before the command has to wait, in bytes.
const MOST_LAG: u64 = 1 << 20;

/// Most that is moved into one log before everything else gets its turn, in bytes. No less than a pipe holds: what one
/// output got before the other is then before it in the log.
const MOST_AT_ONCE: usize = LARGE_PIPE_SIZE as usize;

/// One read. No less than a pipe holds, so that a pipe that was full is seen to have been.
const CHUNK: usize = 256 * 1024;

/// What may stay in memory of the output of a command that is over, for want of room on the disk, in bytes.
const MOST_LEFT: usize = 64 * 1024;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub exit: Exit,
    pub timed_out: bool,
    pub cancelled: bool,
}

/// How far a stream has come in a log.
#[derive(Debug)]
struct Follower {
    offset: u64,
    /// Switches between stdout and stderr up to there.
    passed: usize,
}

struct Record {
    id: String,
    pid: i32,
    log: Log,
    switches: Switches,
    ended: Option<Ended>,
    /// By stream; there is one session at a time.
    followers: BTreeMap<u32, Follower>,
}

/// What is known of a command whose output a tool is to read.
pub struct Known<'a> {
    pub log: &'a Log,
    pub running: bool,
}

/// The kept commands of a guest, by the numbers that they have among all commands.
pub struct Kept {
    place: Option<Rc<Place>>,
    records: BTreeMap<u64, Record>,
    numbers: HashMap<String, u64>,
    running: BTreeSet<u64>,
    /// In the order in which they ended.
    over: VecDeque<u64>,
    /// Read when the first command is kept, so that it costs nothing before.
    shelf: Option<Shelf>,
    chunk: Box<[u8]>,
}

impl Kept {
    pub fn new(place: Option<Rc<Place>>) -> Self {
        Self {
            place,
            records: BTreeMap::new(),
            numbers: HashMap::new(),
            running: BTreeSet::new(),
            over: VecDeque::new(),
            shelf: None,
            chunk: Box::default(),
        }
    }

    fn folder(&self) -> Option<BorrowedFd<'_>> {
        self.place.as_ref()?.commands.as_ref().map(AsFd::as_fd)
    }

    /// Makes the log of a command that is about to start.
    pub fn prepare(&mut self, id: &str) -> Result<Log, StartError> {
        let Some(folder) = self.folder() else { return Err(no_workspace()) };
        if self.shelf.is_none() {
            let shelf = Shelf::read(folder);
            self.shelf = Some(shelf);
            self.chunk = vec![0; CHUNK].into_boxed_slice();
        }
        if self.running.len() >= MOST_RUNNING {
            let message = format!("{MOST_RUNNING} kept commands run already");
            return Err(StartError { code: ErrorCode::Internal, message });
        }
        let in_use = || StartError { code: ErrorCode::IdInUse, message: format!("there is a command {id} already") };
        if self.numbers.contains_key(id) {
            return Err(in_use());
        }
        let folder = self.folder().ok_or_else(no_workspace)?;
        Log::create(folder, id).map_err(|_: Errno| in_use())
    }

    /// Takes a command in that has just been started.
    pub fn add(&mut self, number: u64, id: &str, pid: i32, log: Log) {
        let (switches, followers) = (Switches::default(), BTreeMap::new());
        self.records.insert(number, Record { id: id.to_owned(), pid, log, switches, ended: None, followers });
        self.numbers.insert(id.to_owned(), number);
        self.running.insert(number);
    }

    /// Forgets a command that did not start, with its log.
    pub fn remove(&mut self, number: u64) {
        if let Some(record) = self.records.remove(&number) {
            self.numbers.remove(&record.id);
            self.running.remove(&number);
            self.discard(&record.id);
        }
    }

    /// Removes the log of a command that did not start.
    pub fn discard(&self, id: &str) {
        if let Some(folder) = self.folder() {
            // One that cannot be removed goes when it is the oldest.
            let _ = nix::unistd::unlinkat(folder, id, nix::unistd::UnlinkatFlags::NoRemoveDir);
        }
    }

    pub fn number(&self, id: &str) -> Option<u64> {
        self.numbers.get(id).copied()
    }

    pub fn running(&self) -> &BTreeSet<u64> {
        &self.running
    }

    /// What is known about the command that a tool asks for.
    pub fn known(&self, id: &str) -> Option<Known<'_>> {
        let record = self.records.get(self.numbers.get(id)?)?;
        Some(Known { log: &record.log, running: record.ended.is_none() })
    }

    pub fn states(&self) -> Vec<CommandState> {
        self.records.values().map(Record::state).collect()
    }

    /// Begins to send a command's output to a stream.
    pub fn follow(&mut self, number: u64, stream: u32, offset: u64) {
        let place = self.place.clone();
        let folder = place.as_ref().and_then(|place| place.commands.as_ref());
        if let (Some(record), Some(folder)) = (self.records.get_mut(&number), folder) {
            record.log.wake(folder.as_fd(), &record.id);
            record.followers.insert(stream, Follower { offset, passed: 0 });
        }
    }

    pub fn unfollow(&mut self, number: u64, stream: u32) {
        if let Some(record) = self.records.get_mut(&number) {
            record.followers.remove(&stream);
            if record.ended.is_some() && record.followers.is_empty() {
                record.log.rest();
            }
        }
    }

    pub fn is_followed(&self, number: u64) -> bool {
        self.records.get(&number).is_some_and(|record| !record.followers.is_empty())
    }

    pub fn pid(&self, number: u64) -> Option<i32> {
        self.records.get(&number).map(|record| record.pid)
    }

    /// Reads what comes next for a stream; says which output it is and how much.
    pub fn read(&mut self, number: u64, stream: u32, buffer: &mut [u8]) -> Option<(End, usize)> {
        let record = self.records.get_mut(&number)?;
        let follower = record.followers.get_mut(&stream)?;
        let limit = record.switches.at(follower.offset, &mut follower.passed).1;
        let limit = limit.map_or(usize::MAX, |other| usize::try_from(other - follower.offset).unwrap_or(usize::MAX));
        let limit = limit.min(buffer.len());
        let count = record.log.read(&mut follower.offset, &mut buffer[..limit]);
        // What is lost may have been passed over, and with it some switches.
        let (end, other) = record.switches.at(follower.offset, &mut follower.passed);
        let left = other.map_or(u64::MAX, |other| other - follower.offset);
        let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
        follower.offset += count as u64;
        (count > 0).then_some((end, count))
    }

    /// How the command ended, once a stream has got all of its output.
    pub fn conclusion(&self, number: u64, stream: u32) -> Option<Ended> {
        let record = self.records.get(&number)?;
        let follower = record.followers.get(&stream)?;
        record.ended.filter(|_| follower.offset >= record.log.total())
    }

    /// Whether `pump` would find something to do.
    pub fn wants(&self, number: u64, command: &Command) -> bool {
        command.may_have_output() && self.records.get(&number).is_some_and(|record| !record.must_wait())
    }

    /// Moves output from the pipes of a running command into its log.
    pub fn pump(&mut self, number: u64, command: &mut Command) {
        let Some(record) = self.records.get_mut(&number).filter(|_| *command.start() == Start::Done) else { return };
        let mut moved = 0;
        while !record.must_wait() {
            let Some((end, count)) = command.read_in_order(&mut self.chunk) else { break };
            record.switches.note(record.log.total(), end);
            record.log.append(&self.chunk[..count]);
            moved += count;
            if moved >= MOST_AT_ONCE {
                command.give_turn();
                break;
            }
        }
        self.tidy_if_crossed(number, moved);
    }

    /// A log that grows may leave less room for those of commands that are over.
    fn tidy_if_crossed(&mut self, number: u64, moved: usize) {
        const STEP: u64 = 16 << 20;
        let size = self.records.get(&number).map_or(0, |record| record.log.size());
        if size / STEP != size.saturating_sub(moved as u64) / STEP {
            self.tidy();
        }
    }

    fn tidy(&mut self) {
        let growing = self.running.iter().filter_map(|number| self.records.get(number));
        let elsewhere = growing.map(|record| record.log.size()).sum();
        let place = self.place.clone();
        if let (Some(shelf), Some(folder)) = (&mut self.shelf, place.as_ref().and_then(|place| place.commands.as_ref()))
        {
            shelf.tidy(folder.as_fd(), elsewhere);
        }
    }

    /// Notes the end of a command.
    pub fn finish(&mut self, number: u64, ended: Ended) {
        let Some(record) = self.records.get_mut(&number) else { return };
        record.ended = Some(ended);
        record.log.finish(MOST_LEFT);
        record.switches.finish();
        if record.followers.is_empty() {
            record.log.rest();
        }
        if let Some(shelf) = &mut self.shelf {
            shelf.put(&record.id, record.log.size());
        }
        self.running.remove(&number);
        self.over.push_back(number);
        self.forget_the_oldest();
        self.tidy();
    }

    fn forget_the_oldest(&mut self) {
        while self.over.len() > MOST_OVER {
            let oldest = self.over.pop_front().and_then(|number| self.records.remove(&number));
            if let Some(record) = oldest {
                self.numbers.remove(&record.id);
            }
        }
    }
}

impl Record {
    /// Whether somebody lags so far behind that no more is read.
    fn must_wait(&self) -> bool {
        self.followers.values().any(|follower| self.log.total().saturating_sub(follower.offset) > MOST_LAG)
    }

    fn state(&self) -> CommandState {
        let (exit_code, signal) = match self.ended.map(|ended| ended.exit) {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        CommandState {
            id: self.id.clone(),
            pid: self.pid,
            running: self.ended.is_none(),
            exit_code,
            signal,
            timed_out: self.ended.is_some_and(|ended| ended.timed_out),
            cancelled: self.ended.is_some_and(|ended| ended.cancelled),
            output_bytes: self.log.total(),
        }
    }
}

pub fn no_workspace() -> StartError {
    StartError { code: ErrorCode::NoWorkspace, message: "this guest has no workspace".into() }
}
