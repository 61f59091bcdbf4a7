//! A session with a guest in which nothing real runs: the input decides what the host sends and what commands do.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, write};
use pyro_agent::commands::Commands;
use pyro_agent::message::Exec;
use pyro_agent::outgoing::Outgoing;
use pyro_agent::poller::{Poller, Token};
use pyro_agent::reap::Exit;
use pyro_agent::session::Session;
use pyro_agent::spawn::{Attempt, Spawn, Spawned, StartError};
use pyro_agent::tool_process::Work;
use pyro_agent::tools::Place;

use crate::listener::Listener;

/// No process has an id that high, so that signals go nowhere.
const FIRST_PID: i32 = i32::MAX;

/// What the other end of a command's pipes would be.
struct Process {
    pid: i32,
    status: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

#[derive(Clone, Default)]
struct Processes(Rc<RefCell<Vec<Process>>>);

impl Spawn for Processes {
    fn spawn(&self, exec: &Exec) -> Result<Spawned, StartError> {
        self.pretend(exec.stdin).map_err(|errno| StartError::internal("pretend to start a process", errno))
    }

    fn spawn_tool(&self, work: &Work<'_>) -> Result<Spawned, StartError> {
        self.pretend(work.stdin).map_err(|errno| StartError::internal("pretend to start a tool", errno))
    }
}

impl Processes {
    fn pretend(&self, takes_stdin: bool) -> Result<Spawned, Errno> {
        let pipe = || pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
        let mut processes = self.0.borrow_mut();
        let pid = processes.last().map_or(FIRST_PID, |last| last.pid - 1);
        let (status, child_status) = pipe()?;
        let (child_stdin, stdin) =
            if takes_stdin { pipe().map(|(read, write)| (Some(read), Some(write)))? } else { (None, None) };
        let ((stdout, child_stdout), (stderr, child_stderr)) = (pipe()?, pipe()?);
        processes.push(Process {
            pid,
            status: Some(child_status),
            stdin: child_stdin,
            stdout: child_stdout,
            stderr: child_stderr,
        });
        Ok(Spawned { pid, status, stdin, stdout, stderr, attempt: Attempt::new("x", "/") })
    }
}

pub struct Guest {
    poller: Rc<Poller>,
    processes: Processes,
    commands: Commands,
    session: Session,
    outgoing: Outgoing,
    listener: Listener,
}

impl Guest {
    /// The outputs of kept commands go to the folder, and stay there for no longer than the guest lives.
    pub fn new(folder: &Path) -> Self {
        let poller = Rc::new(Poller::new().expect("an epoll instance"));
        let processes = Processes::default();
        let place = Place::open(folder, None, None, Some(folder)).expect("an open folder");
        let commands = Commands::new(Rc::clone(&poller), Box::new(processes.clone()), Some(place));
        Self {
            poller,
            processes,
            commands,
            session: Session::default(),
            outgoing: Outgoing::default(),
            listener: Listener::default(),
        }
    }

    /// Goes through the input: a byte that says what happens, a byte that says how much, and so on.
    pub fn live(mut self, mut input: &[u8]) {
        while let [what, amount, rest @ ..] = input {
            input = rest;
            match what % 8 {
                0..=2 => {
                    let (sent, rest) = input.split_at(input.len().min(usize::from(*amount)));
                    input = rest;
                    self.receive(sent);
                }
                3 => self.start(*amount),
                4 => self.speak(*amount),
                5 => self.exit(*amount),
                6 => self.commands.expire(Instant::now() + Duration::from_secs(u64::from(*amount))),
                _ => {}
            }
            self.turn();
        }
        self.session.close(&mut self.commands, &mut self.outgoing);
        self.commands.pump();
        for state in self.commands.kept.states() {
            self.commands.kept.discard(&state.id);
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        if self.session.receive(bytes, &mut self.commands).is_err() {
            let ended = std::mem::take(&mut self.session);
            ended.close(&mut self.commands, &mut self.outgoing);
            self.listen();
            self.listener = Listener::default();
        }
    }

    /// One of the processes becomes its program, or reports that it cannot.
    fn start(&mut self, choice: u8) {
        self.with_process(choice, |process| {
            if let Some(status) = process.status.take().filter(|_| choice > 128) {
                write(status, &[choice % 3, 0, 0, 0, choice]).expect("an empty pipe");
            }
        });
    }

    fn speak(&mut self, choice: u8) {
        let text = vec![choice; usize::from(choice) * 16];
        self.with_process(choice, |process| {
            // A full pipe is one of the things that happen.
            let _ = write(if choice.is_multiple_of(2) { &process.stdout } else { &process.stderr }, &text);
        });
    }

    fn exit(&mut self, choice: u8) {
        let Some(index) = self.choose(choice) else { return };
        let Process { pid, stdin, .. } = self.processes.0.borrow_mut().remove(index);
        drop(stdin);
        self.commands.reaped(pid, if choice.is_multiple_of(2) { Exit::Code(choice.into()) } else { Exit::Signal(9) });
        self.commands.check_groups();
    }

    fn with_process(&mut self, choice: u8, act: impl FnOnce(&mut Process)) {
        if let Some(index) = self.choose(choice) {
            act(&mut self.processes.0.borrow_mut()[index]);
        }
    }

    fn choose(&self, choice: u8) -> Option<usize> {
        usize::from(choice).checked_rem(self.processes.0.borrow().len())
    }

    /// What the server does after something happened.
    fn turn(&mut self) {
        for token in self.poller.wait(Some(Duration::ZERO)).expect("no reason to fail") {
            match token {
                Token::Command(number, end) => self.commands.ready(number, end),
                Token::Leftover(number) => self.commands.leftover_ready(number),
                Token::Channel | Token::Children | Token::Listener => {}
            }
        }
        self.commands.pump();
        while self.session.fill(&mut self.outgoing, &mut self.commands) {
            self.listen();
        }
        self.listen();
    }

    fn listen(&mut self) {
        self.listener.hear(self.outgoing.pending());
        self.outgoing.clear();
    }
}
