//! A host for the agent: the agent's own program on one end of a socket, another project's yamux on the other.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::future::poll_fn;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use nix::errno::Errno;
use nix::libc;
use pyro_agent::message::{AgentMessage, CommandState, Exec, HostMessage};
use pyro_agent::preamble::{encode, Hello, Kind, Nonce, Reply, Start, GENERATION, NONCE_LEN};
use pyro_agent::tools::request::Tool;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::TokioAsyncReadCompatExt;

pub const NONCE: Nonce = *b"a nonce of tests";

/// Longest time that any one thing in a test may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Runs a test with a time limit.
pub fn run<T>(test: impl std::future::Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async { tokio::time::timeout(LIMIT, test).await.expect("the test takes too long") })
}

/// The agent's process; it is killed with the value.
pub struct Agent {
    pub process: Child,
}

impl Agent {
    /// Starts an agent and returns it with the host's end of its channel.
    pub fn start() -> (Self, UnixStream) {
        Self::start_with(&[])
    }

    /// The same with arguments after `serve`.
    pub fn start_with(arguments: &[&str]) -> (Self, UnixStream) {
        let (host, agent) = std::os::unix::net::UnixStream::pair().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_pyro-agent"))
            .arg("serve")
            .args(arguments)
            .stdin(Stdio::from(OwnedFd::from(agent)))
            .spawn()
            .unwrap();
        host.set_nonblocking(true).unwrap();
        (Self { process }, UnixStream::from_std(host).unwrap())
    }

    /// Starts an agent that serves one host after the other on a socket.
    pub async fn listen(path: &Path, arguments: &[&str]) -> Self {
        let process = Command::new(env!("CARGO_BIN_EXE_pyro-agent"))
            .args(["serve", "--listen", path.to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        while !path.exists() {
            tokio::task::yield_now().await;
        }
        Self { process }
    }

    pub fn pid(&self) -> i32 {
        self.process.id() as i32
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn hello(nonce: &Nonce, generation: u32) -> Vec<u8> {
    encode(Kind::Hello, nonce, &Hello { generation })
}

pub fn start(nonce: &Nonce) -> Vec<u8> {
    encode(Kind::Start, nonce, &Start { machine: None })
}

/// Reads until a packet of the given kind and nonce appears and returns its payload.
pub async fn find_packet(channel: &mut UnixStream, kind: Kind, nonce: &Nonce) -> Vec<u8> {
    let wanted = [&b"PYRO"[..], &[kind as u8], nonce].concat();
    let mut seen = Vec::new();
    while !seen.ends_with(&wanted) {
        seen.push(channel.read_u8().await.unwrap());
    }
    let length = channel.read_u32().await.unwrap();
    let mut payload = vec![0; length as usize];
    channel.read_exact(&mut payload).await.unwrap();
    payload
}

/// Opens a session on the channel, up to where the multiplexer begins.
pub async fn greet(channel: &mut UnixStream, nonce: &Nonce) -> Reply {
    channel.write_all(&hello(nonce, GENERATION)).await.unwrap();
    let reply = find_packet(channel, Kind::Reply, nonce).await;
    channel.write_all(&start(nonce)).await.unwrap();
    assert_eq!(find_packet(channel, Kind::Started, nonce).await, b"{}");
    serde_json::from_slice(&reply).unwrap()
}

type Opened = Result<yamux::Stream, yamux::ConnectionError>;

/// A session; it ends with the value.
pub struct Host {
    opener: mpsc::Sender<oneshot::Sender<Opened>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Host {
    pub async fn connect(mut channel: UnixStream) -> Self {
        greet(&mut channel, &NONCE).await;
        let (opener, requests) = mpsc::channel(1);
        let connection = yamux::Connection::new(channel.compat(), yamux::Config::default(), yamux::Mode::Client);
        Self { opener, driver: tokio::task::spawn_local(drive(connection, requests)) }
    }

    pub async fn open(&self) -> Exchange {
        let (sender, receiver) = oneshot::channel();
        self.opener.send(sender).await.unwrap();
        Exchange { stream: receiver.await.unwrap().unwrap() }
    }

    pub async fn request(&self, message: &HostMessage) -> Exchange {
        let mut exchange = self.open().await;
        exchange.say(message).await;
        exchange
    }

    pub async fn exec(&self, argv: &[&str]) -> Exchange {
        self.request(&HostMessage::Exec(command(argv))).await
    }

    /// Sends a signal to a command and returns the answer.
    pub async fn signal(&self, pid: i32, signal: i32) -> AgentMessage {
        let mut outcome = self.request(&HostMessage::Signal { pid, signal }).await.outcome().await;
        assert_eq!(outcome.messages.len(), 1);
        outcome.messages.remove(0)
    }

    /// Sends a request that has one answer and returns that.
    pub async fn ask(&self, message: &HostMessage) -> AgentMessage {
        let mut outcome = self.request(message).await.outcome().await;
        assert_eq!(outcome.messages.len(), 1, "{outcome:?}");
        outcome.messages.remove(0)
    }

    /// Follows a kept command to its end.
    pub async fn attach(&self, id: &str, offset: u64) -> Outcome {
        self.request(&HostMessage::Attach { id: id.to_owned(), offset }).await.outcome().await
    }

    /// What is known about a kept command.
    pub async fn state(&self, id: &str) -> Option<CommandState> {
        match self.ask(&HostMessage::Commands {}).await {
            AgentMessage::Commands { commands } => commands.into_iter().find(|command| command.id == id),
            other => panic!("{other:?} instead of commands"),
        }
    }

    /// Runs a tool and returns what it wrote, or what it complained.
    pub async fn tool(&self, tool: Tool, stdin: Option<&[u8]>) -> Result<Vec<u8>, serde_json::Value> {
        let mut exchange = self.request(&HostMessage::Tool { tool }).await;
        if let Some(stdin) = stdin {
            exchange.send(&[frame(0, stdin), frame(0, b"")].concat()).await;
        }
        let outcome = exchange.outcome().await;
        if *outcome.last() == exited(0) {
            return Ok(outcome.stdout);
        }
        assert_eq!(*outcome.last(), exited(1), "{outcome:?}");
        Err(serde_json::from_slice(&outcome.stderr).unwrap())
    }

    /// Asks for a sign of life on a stream of its own.
    pub async fn ping(&self) {
        let outcome = self.request(&HostMessage::Ping {}).await.outcome().await;
        assert_eq!(outcome.messages, [AgentMessage::Pong {}]);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Keeps a connection going and opens streams on it.
async fn drive<S>(mut connection: yamux::Connection<S>, mut requests: mpsc::Receiver<oneshot::Sender<Opened>>)
where
    S: futures::AsyncRead + futures::AsyncWrite + Unpin,
{
    let mut waiting: Option<oneshot::Sender<Opened>> = None;
    poll_fn(|context| {
        use std::task::Poll;
        loop {
            if let Some(request) = waiting.take() {
                match connection.poll_new_outbound(context) {
                    Poll::Ready(opened) => drop(request.send(opened)),
                    Poll::Pending => waiting = Some(request),
                }
            }
            if waiting.is_none() {
                if let Poll::Ready(Some(request)) = requests.poll_recv(context) {
                    waiting = Some(request);
                    continue;
                }
            }
            match connection.poll_next_inbound(context) {
                Poll::Ready(Some(Ok(_))) => panic!("the agent opened a stream"),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

pub fn command(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        env: [].into(),
        cwd: "/".into(),
        stdin: false,
        timeout_ms: None,
        keep: None,
    }
}

pub fn frame(tag: u8, payload: &[u8]) -> Vec<u8> {
    [&[tag], &(payload.len() as u32).to_be_bytes()[..], payload].concat()
}

/// The folders of a guest with a workspace; they are removed with the value.
pub struct Folders {
    pub path: PathBuf,
}

impl Folders {
    pub fn new(name: &str) -> Self {
        let path = scratch(name);
        for folder in ["workspace", "state"] {
            std::fs::create_dir_all(path.join(folder)).unwrap();
        }
        Self { path }
    }

    /// The arguments that make an agent use them.
    pub fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.path.join(name).to_str().unwrap().to_owned();
        vec!["--workspace".into(), path("workspace"), "--state".into(), path("state")]
    }

    pub fn start(&self) -> (Agent, UnixStream) {
        let arguments = self.arguments();
        Agent::start_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A shell command that is kept.
pub fn kept(id: &str, script: &str) -> HostMessage {
    HostMessage::Exec(Exec { keep: Some(id.to_owned()), ..command(&["sh", "-c", script]) })
}

/// Everything that a command said.
#[derive(Debug, Default)]
pub struct Outcome {
    pub messages: Vec<AgentMessage>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Outcome {
    pub fn last(&self) -> &AgentMessage {
        self.messages.last().unwrap()
    }

    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

pub fn exited(code: i32) -> AgentMessage {
    AgentMessage::Exited { exit_code: Some(code), signal: None, timed_out: false }
}

pub fn killed(signal: i32) -> AgentMessage {
    AgentMessage::Exited { exit_code: None, signal: Some(signal), timed_out: false }
}

pub fn timed_out(signal: i32) -> AgentMessage {
    AgentMessage::Exited { exit_code: None, signal: Some(signal), timed_out: true }
}

/// One request and what comes of it. Dropping it resets the stream.
pub struct Exchange {
    stream: yamux::Stream,
}

impl Exchange {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn say(&mut self, message: &HostMessage) {
        self.send(&frame(3, &serde_json::to_vec(message).unwrap())).await;
    }

    pub async fn finish(&mut self) {
        self.stream.close().await.unwrap();
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 5];
        if self.stream.read(&mut header[..1]).await.unwrap() == 0 {
            return None;
        }
        self.stream.read_exact(&mut header[1..]).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes(header[1..].try_into().unwrap()) as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        Some((header[0], payload))
    }

    pub async fn started(&mut self) -> i32 {
        let (tag, payload) = self.next().await.unwrap();
        assert_eq!(tag, 3);
        match serde_json::from_slice(&payload).unwrap() {
            AgentMessage::Started { pid } => pid,
            other => panic!("{other:?} instead of started"),
        }
    }

    /// Reads to the end of the stream.
    pub async fn outcome(mut self) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some((tag, payload)) = self.next().await {
            match tag {
                1 => outcome.stdout.extend(payload),
                2 => outcome.stderr.extend(payload),
                3 => outcome.messages.push(serde_json::from_slice(&payload).unwrap()),
                _ => panic!("tag {tag}"),
            }
        }
        outcome
    }
}

/// Waits until a process has ended. One that is gone already has.
pub async fn wait_for_end(pid: i32) {
    // SAFETY: the call takes plain numbers, and a descriptor that it returns belongs to nobody else.
    let handle = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32;
        if fd < 0 {
            assert_eq!(Errno::last(), Errno::ESRCH);
            return;
        }
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: the value owns its descriptor and keeps it open.
    let handle = unsafe { AsyncFd::register(handle) }.unwrap();
    handle.readable().await.unwrap().retain_ready();
}

pub fn is_alive(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

pub const ANOTHER_NONCE: Nonce = [7; NONCE_LEN];

/// A path for a test's own file.
pub fn scratch(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("pyro-agent-{}-{name}", std::process::id()))
}
