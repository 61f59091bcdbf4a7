//! Commands that outlive their session.

mod common;

use common::*;
use pyro_agent::message::{AgentMessage, CommandState, ErrorCode, Exec, HostMessage};
use tokio::net::UnixStream;

fn code(message: &AgentMessage) -> ErrorCode {
    match message {
        AgentMessage::Error { code, .. } => *code,
        other => panic!("{other:?} instead of an error"),
    }
}

async fn host(folders: &Folders) -> (Agent, Host) {
    let (agent, channel) = folders.start();
    (agent, Host::connect(channel).await)
}

/// Waits until the agent knows the end of a command.
async fn end_of(host: &Host, id: &str) -> CommandState {
    loop {
        let state = host.state(id).await.unwrap();
        if !state.running {
            return state;
        }
    }
}

#[test]
fn a_kept_command_answers_like_any_other() {
    run(async {
        let folders = Folders::new("kept-like");
        let (_agent, host) = host(&folders).await;
        let outcome = host.request(&kept("x-1", "echo out; sleep 0.1; echo err >&2; exit 3")).await.outcome().await;
        assert!(matches!(outcome.messages[0], AgentMessage::Started { pid } if pid > 1));
        assert_eq!(outcome.messages[1..], [exited(3)]);
        assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
        assert_eq!(std::fs::read(folders.path.join("state/commands/x-1")).unwrap(), b"out\nerr\n");
        let state = host.state("x-1").await.unwrap();
        assert_eq!((state.running, state.exit_code, state.output_bytes), (false, Some(3), 8));
        assert!(!state.cancelled && !state.timed_out);
    });
}

#[test]
fn stdin_and_time_limits_as_usual() {
    run(async {
        let folders = Folders::new("kept-stdin");
        let (_agent, host) = host(&folders).await;
        let exec = Exec { stdin: true, keep: Some("x-1".into()), ..command(&["md5sum"]) };
        let mut exchange = host.request(&HostMessage::Exec(exec)).await;
        for _ in 0..3 {
            exchange.send(&frame(0, &vec![b'x'; 1 << 20])).await;
        }
        exchange.send(&frame(0, b"")).await;
        assert_eq!(exchange.outcome().await.stdout(), "c1887f0c970afa48194adf7f5c504696  -\n");
        let exec = Exec { timeout_ms: Some(100), keep: Some("x-2".into()), ..command(&["sleep", "100"]) };
        let outcome = host.request(&HostMessage::Exec(exec)).await.outcome().await;
        assert_eq!(*outcome.last(), timed_out(15));
        let state = host.state("x-2").await.unwrap();
        assert!(state.timed_out && !state.cancelled && state.signal == Some(15));
    });
}

#[test]
fn what_cannot_be_kept() {
    run(async {
        let folders = Folders::new("kept-not");
        let (_agent, host) = host(&folders).await;
        let missing = Exec { keep: Some("x-1".into()), ..command(&["no-such-program"]) };
        for _ in 0..2 {
            // The id of what did not start is free again.
            assert_eq!(code(&host.ask(&HostMessage::Exec(missing.clone())).await), ErrorCode::NotFound);
        }
        assert_eq!(host.state("x-1").await, None);
        assert!(!folders.path.join("state/commands/x-1").exists());
        assert_eq!(*host.request(&kept("x-1", "true")).await.outcome().await.last(), exited(0));
        assert_eq!(code(&host.ask(&kept("x-1", "true")).await), ErrorCode::IdInUse);
        std::fs::write(folders.path.join("state/commands/x-2"), "of an earlier boot").unwrap();
        assert_eq!(code(&host.ask(&kept("x-2", "true")).await), ErrorCode::IdInUse);
        for unknown in [HostMessage::Attach { id: "x-3".into(), offset: 0 }, HostMessage::End { id: "x-3".into() }] {
            assert_eq!(code(&host.ask(&unknown).await), ErrorCode::NoSuchCommand);
        }
        let (_agent, channel) = Agent::start();
        let bare = Host::connect(channel).await;
        assert_eq!(code(&bare.ask(&kept("x-1", "true")).await), ErrorCode::NoWorkspace);
        assert_eq!(bare.ask(&HostMessage::Commands {}).await, AgentMessage::Commands { commands: vec![] });
    });
}

#[test]
fn the_end_of_its_stream_ends_its_stdin_alone() {
    run(async {
        let folders = Folders::new("kept-stream");
        let (_agent, host) = host(&folders).await;
        for (id, reset) in [("x-1", true), ("x-2", false)] {
            let script = "echo begun; cat; echo ended";
            let exec = Exec { stdin: true, keep: Some(id.into()), ..command(&["sh", "-c", script]) };
            let mut exchange = host.request(&HostMessage::Exec(exec)).await;
            let pid = exchange.started().await;
            assert_eq!(exchange.next().await.unwrap().1, b"begun\n");
            if reset {
                drop(exchange);
            } else {
                exchange.finish().await;
                assert_eq!(exchange.outcome().await.messages, []);
            }
            let outcome = host.attach(id, 0).await;
            assert_eq!(outcome.messages, [AgentMessage::Started { pid }, exited(0)]);
            assert_eq!(outcome.stdout(), "begun\nended\n");
        }
    });
}

#[test]
fn nonsense_on_its_stream_does_not_end_it() {
    run(async {
        let folders = Folders::new("kept-nonsense");
        let (_agent, host) = host(&folders).await;
        let mut exchange = host.request(&kept("x-1", "sleep 0.2; echo done")).await;
        exchange.started().await;
        exchange.send(&frame(0, b"nobody asked for it")).await;
        assert_eq!(code(exchange.outcome().await.last()), ErrorCode::BadRequest);
        assert_eq!(host.attach("x-1", 0).await.stdout(), "done\n");
    });
}

#[test]
fn a_command_outlives_the_host() {
    run(async {
        let folders = Folders::new("kept-host");
        let socket = folders.path.join("socket");
        let arguments = folders.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let _agent = Agent::listen(&socket, &arguments).await;
        let first = Host::connect(UnixStream::connect(&socket).await.unwrap()).await;
        let go = folders.path.join("go");
        let script = format!("echo one; echo two >&2; until [ -e {} ]; do sleep 0.05; done; echo three", go.display());
        let mut exchange = first.request(&kept("x-1", &script)).await;
        let pid = exchange.started().await;
        let mut not_kept = first.exec(&["sleep", "100"]).await;
        let sleeper = not_kept.started().await;
        drop((exchange, not_kept, first));
        wait_for_end(sleeper).await;
        assert!(is_alive(pid));
        let second = Host::connect(UnixStream::connect(&socket).await.unwrap()).await;
        let state = second.state("x-1").await.unwrap();
        assert_eq!((state.running, state.pid, state.exit_code, state.signal), (true, pid, None, None));
        std::fs::write(&go, "").unwrap();
        let outcome = second.attach("x-1", 0).await;
        assert_eq!(outcome.messages, [AgentMessage::Started { pid }, exited(0)]);
        assert_eq!((outcome.stdout(), outcome.stderr.as_slice()), ("one\nthree\n", &b"two\n"[..]));
        let rest = second.attach("x-1", 4).await;
        assert_eq!((rest.stdout(), rest.stderr.as_slice()), ("three\n", &b"two\n"[..]));
        assert_eq!(second.attach("x-1", 1000).await.messages, [AgentMessage::Started { pid }, exited(0)]);
    });
}

#[test]
fn a_signal_reaches_a_kept_command_of_an_earlier_session() {
    run(async {
        let folders = Folders::new("kept-signal");
        let (_agent, mut channel) = folders.start();
        greet(&mut channel, &ANOTHER_NONCE).await;
        let request = serde_json::to_vec(&kept("x-1", "sleep 100")).unwrap();
        let payload = frame(3, &request);
        let open = [&[0, 0, 0, 1, 0, 0, 0, 1][..], &(payload.len() as u32).to_be_bytes(), &payload].concat();
        tokio::io::AsyncWriteExt::write_all(&mut channel, &open).await.unwrap();
        // A hello in the middle begins another session.
        let host = Host::connect(channel).await;
        let pid = host.state("x-1").await.unwrap().pid;
        assert_eq!(host.signal(pid, 12).await, AgentMessage::Ok {});
        assert_eq!(end_of(&host, "x-1").await.signal, Some(12));
    });
}

#[test]
fn an_end_on_request() {
    run(async {
        let folders = Folders::new("kept-end");
        let (_agent, host) = host(&folders).await;
        let script = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let mut exchange = host.request(&kept("x-1", script)).await;
        exchange.started().await;
        assert_eq!(exchange.next().await.unwrap().1, b"ready\n");
        for _ in 0..2 {
            assert_eq!(host.ask(&HostMessage::End { id: "x-1".into() }).await, AgentMessage::Ok {});
        }
        let outcome = exchange.outcome().await;
        assert_eq!((outcome.stdout(), outcome.last()), ("asked\n", &exited(5)));
        let state = host.state("x-1").await.unwrap();
        assert!(state.cancelled && !state.timed_out && state.exit_code == Some(5));
        assert_eq!(host.ask(&HostMessage::End { id: "x-1".into() }).await, AgentMessage::Ok {});
        // What does not care is killed.
        let mut exchange = host.request(&kept("x-2", "trap '' TERM; echo ready; while :; do sleep 0.05; done")).await;
        exchange.started().await;
        exchange.next().await.unwrap();
        host.ask(&HostMessage::End { id: "x-2".into() }).await;
        assert_eq!(*exchange.outcome().await.last(), killed(9));
    });
}

#[test]
fn several_follow_at_a_time_and_get_everything() {
    run(async {
        let folders = Folders::new("kept-several");
        let (_agent, host) = host(&folders).await;
        let script = "seq 1 300000; seq -f 'error %.0f' 1 50000 >&2; seq 300001 300010";
        let exchange = host.request(&kept("x-1", script)).await;
        let expected: String = (1..=300_010).map(|n| format!("{n}\n")).collect();
        let errors: String = (1..=50_000).map(|n| format!("error {n}\n")).collect();
        let attached = [host.attach("x-1", 0), host.attach("x-1", 0)];
        let (first, others) = futures::join!(exchange.outcome(), futures::future::join_all(attached));
        for outcome in others.iter().chain([&first]) {
            assert!(outcome.stdout() == expected && outcome.stderr == errors.as_bytes());
            assert_eq!(*outcome.last(), exited(0));
        }
        let total = expected.len() + errors.len();
        assert_eq!(host.state("x-1").await.unwrap().output_bytes, total as u64);
    });
}

#[test]
fn nobody_listening_does_not_hold_a_command_up_but_a_slow_listener_does() {
    run(async {
        let folders = Folders::new("kept-slow");
        let (agent, host) = host(&folders).await;
        let mut exchange = host.request(&kept("x-1", "head -c 20000000 /dev/zero; echo done >&2")).await;
        let pid = exchange.started().await;
        // With nobody reading, the command comes to rest in a write once window, lag and pipe are full.
        let asleep = |pid| std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let writer = || std::fs::read_to_string(&children).unwrap().trim().parse::<i32>();
        while !writer().is_ok_and(|writer| asleep(writer).contains("pipe_write")) {
            host.ping().await;
        }
        let behind = host.state("x-1").await.unwrap().output_bytes;
        assert!(behind < 4 << 20, "{behind}");
        drop(exchange);
        let state = end_of(&host, "x-1").await;
        assert_eq!((state.exit_code, state.output_bytes), (Some(0), 20_000_005));
        let outcome = host.attach("x-1", 19_999_990).await;
        assert_eq!((outcome.stdout.len(), outcome.stderr.as_slice()), (10, &b"done\n"[..]));
        assert!(is_alive(agent.pid()));
    });
}

#[test]
fn background_processes_delay_nothing() {
    run(async {
        let folders = Folders::new("kept-background");
        let (_agent, host) = host(&folders).await;
        let outcome = host.request(&kept("x-1", "sleep 100 & echo $!")).await.outcome().await;
        assert_eq!(*outcome.last(), exited(0));
        let background: i32 = outcome.stdout().trim().parse().unwrap();
        assert!(is_alive(background));
        // SAFETY: kill touches no memory of ours.
        unsafe { nix::libc::kill(background, 9) };
    });
}

#[test]
fn a_thousand_commands_leave_no_more_than_their_logs() {
    run(async {
        let folders = Folders::new("kept-thousand");
        let (agent, host) = host(&folders).await;
        let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", agent.pid())).unwrap().count();
        let before = descriptors();
        for number in 0..1100 {
            let id = format!("x-{number}");
            let exec = Exec { keep: Some(id.clone()), ..command(&["true"]) };
            assert_eq!(*host.request(&HostMessage::Exec(exec)).await.outcome().await.last(), exited(0), "{id}");
        }
        let AgentMessage::Commands { commands } = host.ask(&HostMessage::Commands {}).await else { panic!() };
        assert_eq!((commands.len(), commands[0].id.as_str()), (1024, "x-76"));
        assert_eq!(std::fs::read_dir(folders.path.join("state/commands")).unwrap().count(), 256);
        assert_eq!(
            code(&host.ask(&HostMessage::Attach { id: "x-0".into(), offset: 0 }).await),
            ErrorCode::NoSuchCommand
        );
        assert_eq!(descriptors(), before);
    });
}

#[test]
fn a_host_that_is_gone_for_good_takes_kept_commands_along() {
    run(async {
        let folders = Folders::new("kept-gone");
        let (mut agent, channel) = folders.start();
        let host = Host::connect(channel).await;
        let mut exchange = host.request(&kept("x-1", "sleep 100")).await;
        let pid = exchange.started().await;
        drop((exchange, host));
        wait_for_end(pid).await;
        wait_for_end(agent.pid()).await;
        assert!(agent.process.wait().unwrap().success());
    });
}
