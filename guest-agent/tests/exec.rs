//! Commands, run for real, through the agent's own program.

mod common;

use std::time::{Duration, Instant};

use common::*;
use nix::libc;
use pyro_agent::message::{AgentMessage, ErrorCode, Exec, HostMessage};

async fn host() -> (Agent, Host) {
    let (agent, channel) = Agent::start();
    let host = Host::connect(channel).await;
    (agent, host)
}

fn shell(script: &str) -> Exec {
    command(&["sh", "-c", script])
}

async fn run_shell(host: &Host, script: &str) -> Outcome {
    host.request(&HostMessage::Exec(shell(script))).await.outcome().await
}

fn error_code(outcome: &Outcome) -> ErrorCode {
    match outcome.messages.as_slice() {
        [AgentMessage::Error { code, .. }] => *code,
        other => panic!("{other:?} instead of one error"),
    }
}

#[test]
fn exit_code_and_both_outputs() {
    run(async {
        let (_agent, host) = host().await;
        let outcome = run_shell(&host, "echo out; echo err >&2; exit 3").await;
        assert!(matches!(outcome.messages[0], AgentMessage::Started { pid } if pid > 1));
        assert_eq!(outcome.messages[1..], [exited(3)]);
        assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    });
}

#[test]
fn death_by_a_signal_even_a_real_time_one() {
    run(async {
        let (_agent, host) = host().await;
        assert_eq!(*run_shell(&host, "kill -9 $$").await.last(), killed(9));
        assert_eq!(*run_shell(&host, "kill -40 $$").await.last(), killed(40));
    });
}

#[test]
fn stdin_reaches_the_command_and_ends() {
    run(async {
        let (_agent, host) = host().await;
        let mut exchange = host.request(&HostMessage::Exec(Exec { stdin: true, ..command(&["cat"]) })).await;
        exchange.send(&[frame(0, b"some "), frame(0, b"input"), frame(0, b"")].concat()).await;
        let outcome = exchange.outcome().await;
        assert_eq!(outcome.stdout(), "some input");
        assert_eq!(*outcome.last(), exited(0));
    });
}

#[test]
fn more_stdin_than_all_buffers_arrives_whole() {
    run(async {
        let (_agent, host) = host().await;
        let mut exchange = host.request(&HostMessage::Exec(Exec { stdin: true, ..command(&["md5sum"]) })).await;
        for _ in 0..5 {
            exchange.send(&frame(0, &vec![b'x'; 1 << 20])).await;
        }
        exchange.send(&frame(0, b"")).await;
        // md5 of 5 MiB of 'x', as computed by coreutils.
        let expected = String::from_utf8(md5_of_xs(5 << 20)).unwrap();
        assert_eq!(exchange.outcome().await.stdout(), expected);
    });
}

fn md5_of_xs(count: usize) -> Vec<u8> {
    let script = format!("head -c {count} /dev/zero | tr '\\0' x | md5sum");
    std::process::Command::new("sh").args(["-c", &script]).output().unwrap().stdout
}

#[test]
fn without_stdin_there_is_nothing_to_read() {
    run(async {
        let (_agent, host) = host().await;
        let outcome = run_shell(&host, "cat; readlink /proc/self/fd/0").await;
        assert_eq!(outcome.stdout(), "/dev/null\n");
    });
}

#[test]
fn stdin_that_nobody_reads_does_no_harm() {
    run(async {
        let (_agent, host) = host().await;
        let mut exchange = host.request(&HostMessage::Exec(Exec { stdin: true, ..shell("exec <&-; echo on") })).await;
        exchange.send(&frame(0, &vec![0; 200_000])).await;
        assert_eq!(exchange.outcome().await.stdout(), "on\n");
        host.ping().await;
    });
}

#[test]
fn environment_and_directory() {
    run(async {
        let (_agent, host) = host().await;
        let env = [("HOME".to_owned(), "/tmp".to_owned()), ("WITH".to_owned(), "a=b\nc".to_owned())].into();
        let outcome = host.request(&HostMessage::Exec(Exec { env, cwd: "/usr".into(), ..command(&["env"]) })).await;
        let outcome = outcome.outcome().await;
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(outcome.stdout(), format!("HOME=/tmp\nLANG=C.UTF-8\n{path}\nUSER=root\nWITH=a=b\nc\n"));
        let outcome = host.request(&HostMessage::Exec(Exec { cwd: "/usr".into(), ..command(&["pwd"]) })).await;
        assert_eq!(outcome.outcome().await.stdout(), "/usr\n");
    });
}

#[test]
fn a_command_starts_with_a_clean_slate() {
    run(async {
        let (_agent, host) = host().await;
        let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status; umask; ls /proc/self/fd | wc -l; \
                      read pid name state parent group session rest < /proc/$$/stat; echo $pid $group $session";
        let outcome = run_shell(&host, script).await;
        let lines: Vec<_> = outcome.stdout().lines().collect();
        let signals = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        assert_eq!(signals(lines[0]), 0, "no signal is blocked");
        assert_eq!(signals(lines[1]) & 1 << (libc::SIGPIPE - 1), 0, "SIGPIPE is not ignored");
        assert_eq!(lines[2], "0022");
        // Its own three and the one for reading the directory.
        assert_eq!(lines[3].trim(), "4");
        let ids: Vec<_> = lines[4].split(' ').collect();
        assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?} is not a session of its own");
    });
}

#[test]
fn what_cannot_be_started() {
    run(async {
        let (_agent, host) = host().await;
        let script = scratch("interpreter");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let garbage = scratch("garbage");
        std::fs::write(&garbage, [1, 2, 3]).unwrap();
        std::fs::set_permissions(&garbage, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for (program, code) in [
            ("no-such-program", ErrorCode::NotFound),
            ("", ErrorCode::NotFound),
            ("/no/such/program", ErrorCode::NotFound),
            (script.to_str().unwrap(), ErrorCode::NotFound),
            ("/etc/passwd", ErrorCode::NotExecutable),
            ("/usr", ErrorCode::NotExecutable),
            (garbage.to_str().unwrap(), ErrorCode::NotExecutable),
        ] {
            assert_eq!(error_code(&host.exec(&[program]).await.outcome().await), code, "{program}");
        }
        let nowhere = Exec { cwd: "/no/such/directory".into(), ..command(&["true"]) };
        assert_eq!(error_code(&host.request(&HostMessage::Exec(nowhere)).await.outcome().await), ErrorCode::BadCwd);
        std::fs::remove_file(script).unwrap();
        std::fs::remove_file(garbage).unwrap();
    });
}

#[test]
fn a_timeout_ends_the_whole_group() {
    run(async {
        let (_agent, host) = host().await;
        let script = "trap '' TERM; sleep 100 & echo $!; wait; wait";
        let exec = Exec { timeout_ms: Some(300), ..shell(script) };
        let begun = Instant::now();
        let outcome = host.request(&HostMessage::Exec(exec)).await.outcome().await;
        // Whatever ignores SIGTERM has a second more.
        assert!(begun.elapsed() >= Duration::from_millis(1300));
        assert_eq!(*outcome.last(), timed_out(9));
        wait_for_end(outcome.stdout().trim().parse().unwrap()).await;
    });
}

#[test]
fn a_timeout_does_not_wait_without_need() {
    run(async {
        let (_agent, host) = host().await;
        let begun = Instant::now();
        let exec = Exec { timeout_ms: Some(100), ..command(&["sleep", "100"]) };
        let outcome = host.request(&HostMessage::Exec(exec)).await.outcome().await;
        assert_eq!(*outcome.last(), timed_out(15));
        assert!(begun.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn survivors_of_sigterm_are_killed_although_the_main_process_is_gone() {
    run(async {
        let (_agent, host) = host().await;
        let script = "(trap '' TERM; echo ready; exec sleep 100) & echo $!; exec sleep 100";
        let exec = Exec { timeout_ms: Some(500), ..shell(script) };
        let outcome = host.request(&HostMessage::Exec(exec)).await.outcome().await;
        assert_eq!(*outcome.last(), timed_out(15));
        let survivor = outcome.stdout().lines().find(|line| *line != "ready").unwrap().parse().unwrap();
        wait_for_end(survivor).await;
    });
}

#[test]
fn a_command_that_ends_in_time_is_not_timed_out() {
    run(async {
        let (_agent, host) = host().await;
        let exec = Exec { timeout_ms: Some(u64::MAX), ..command(&["true"]) };
        assert_eq!(*host.request(&HostMessage::Exec(exec)).await.outcome().await.last(), exited(0));
    });
}

#[test]
fn signals_go_to_the_group() {
    run(async {
        let (_agent, host) = host().await;
        let mut exchange = host.request(&HostMessage::Exec(shell("sleep 100 & echo $!; wait"))).await;
        let pid = exchange.started().await;
        let (_, child) = exchange.next().await.unwrap();
        assert_eq!(host.signal(pid, 12).await, AgentMessage::Ok {});
        assert_eq!(*exchange.outcome().await.last(), killed(12));
        wait_for_end(String::from_utf8(child).unwrap().trim().parse().unwrap()).await;
    });
}

#[test]
fn a_signal_reaches_a_command_that_does_not_read_its_stdin() {
    run(async {
        let (_agent, host) = host().await;
        let exec = HostMessage::Exec(Exec { stdin: true, ..command(&["sleep", "100"]) });
        let mut exchange = host.request(&exec).await;
        let pid = exchange.started().await;
        exchange.send(&frame(0, &vec![0; 200_000])).await;
        assert_eq!(host.signal(pid, 15).await, AgentMessage::Ok {});
        assert_eq!(*exchange.outcome().await.last(), killed(15));
    });
}

#[test]
fn only_a_running_command_can_be_signalled() {
    run(async {
        let (agent, host) = host().await;
        let mut exchange = host.exec(&["true"]).await;
        let over = exchange.started().await;
        exchange.outcome().await;
        for pid in [over, agent.pid(), 1, 0, -1] {
            let answer = host.signal(pid, 15).await;
            assert!(matches!(answer, AgentMessage::Error { code: ErrorCode::NoSuchCommand, .. }), "{answer:?}");
        }
        host.ping().await;
    });
}

#[test]
fn a_reset_stream_ends_its_command() {
    run(async {
        let (_agent, host) = host().await;
        let mut exchange = host.request(&HostMessage::Exec(shell("trap '' TERM; yes"))).await;
        let pid = exchange.started().await;
        drop(exchange);
        wait_for_end(pid).await;
        host.ping().await;
    });
}

#[test]
fn a_closed_stream_ends_its_command_and_says_so() {
    run(async {
        let (_agent, host) = host().await;
        let mut exchange = host.exec(&["sleep", "100"]).await;
        exchange.started().await;
        exchange.finish().await;
        assert_eq!(exchange.outcome().await.messages, [killed(15)]);
    });
}

#[test]
fn a_background_process_delays_nothing_and_lives_on() {
    run(async {
        let (_agent, host) = host().await;
        let file = scratch("background");
        let script = format!("(sleep 0.3; echo late; echo alive > {}) & echo $!", file.display());
        let outcome = run_shell(&host, &script).await;
        assert_eq!(*outcome.last(), exited(0));
        assert!(!file.exists(), "the command was not waited for");
        let background: i32 = outcome.stdout().trim().parse().unwrap();
        assert!(is_alive(background));
        wait_for_end(background).await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "alive\n", "writing to the old pipe did not kill it");
        std::fs::remove_file(file).unwrap();
    });
}

#[test]
fn orphans_are_reaped() {
    run(async {
        let (_agent, host) = host().await;
        let orphan: i32 = run_shell(&host, "sleep 0.1 & echo $!").await.stdout().trim().parse().unwrap();
        wait_for_end(orphan).await;
        host.ping().await;
        assert!(!is_alive(orphan), "it is not even a zombie any more");
    });
}

#[test]
fn output_at_the_end_arrives_whole() {
    run(async {
        let (_agent, host) = host().await;
        for _ in 0..20 {
            let outcome = run_shell(&host, "head -c 60000 /dev/zero; echo end >&2; exit 4").await;
            assert_eq!((outcome.stdout.len(), outcome.stderr.as_slice()), (60_000, &b"end\n"[..]));
            assert_eq!(*outcome.last(), exited(4));
        }
    });
}

#[test]
fn long_outputs_of_several_commands_are_not_mixed() {
    run(async {
        let (_agent, host) = host().await;
        let script = "seq 1 400000; seq -f 'error %.0f' 1 50000 >&2";
        let expected: String = (1..=400_000).map(|n| format!("{n}\n")).collect();
        let errors: String = (1..=50_000).map(|n| format!("error {n}\n")).collect();
        let runs = (0..3).map(|_| run_shell(&host, script));
        for outcome in futures::future::join_all(runs).await {
            assert!(outcome.stdout() == expected && outcome.stderr == errors.as_bytes());
            assert_eq!(*outcome.last(), exited(0));
        }
    });
}

#[test]
fn output_that_nobody_takes_stays_where_it_is() {
    run(async {
        let (agent, host) = host().await;
        let mut exchange = host.exec(&["yes"]).await;
        let pid = exchange.started().await;
        // With nobody reading, the command comes to rest in a write once the window and the pipe are full.
        let asleep = format!("/proc/{pid}/wchan");
        while !std::fs::read_to_string(&asleep).unwrap().contains("pipe_write") {
            host.ping().await;
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(resident < 16 * 1024, "{resident} KiB");
    });
}

#[test]
fn many_commands_at_once() {
    run(async {
        let (_agent, host) = host().await;
        let scripts: Vec<_> = (0..40).map(|n| format!("echo {n}; exit {n}")).collect();
        let runs = scripts.iter().map(|script| run_shell(&host, script));
        for (n, outcome) in futures::future::join_all(runs).await.iter().enumerate() {
            assert_eq!((outcome.stdout(), outcome.last()), (format!("{n}\n").as_str(), &exited(n as i32)));
        }
    });
}
