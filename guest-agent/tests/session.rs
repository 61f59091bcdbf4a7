//! Sessions: how they begin, what breaks them, and what is left of them.

mod common;

use common::*;
use pyro_agent::message::{AgentMessage, ErrorCode, Exec, HostMessage};
use pyro_agent::preamble::{Kind, Reply, GENERATION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A yamux frame that opens a stream with this payload.
fn open_with(stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&[0, 0, 0, 1][..], &stream.to_be_bytes(), &length, payload].concat()
}

/// Opens a session by hand and starts a command in it. Returns the command's process id.
async fn start_sleeper(channel: &mut UnixStream) -> i32 {
    greet(channel, &NONCE).await;
    let exec = HostMessage::Exec(command(&["sleep", "100"]));
    channel.write_all(&open_with(1, &frame(3, &serde_json::to_vec(&exec).unwrap()))).await.unwrap();
    let mut headers = [0; 12 + 5];
    channel.read_exact(&mut headers).await.unwrap();
    let mut message = vec![0; u32::from_be_bytes(headers[13..].try_into().unwrap()) as usize];
    channel.read_exact(&mut message).await.unwrap();
    match serde_json::from_slice(&message).unwrap() {
        AgentMessage::Started { pid } => pid,
        other => panic!("{other:?} instead of started"),
    }
}

#[test]
fn the_reply_tells_who_answers() {
    run(async {
        let (_agent, mut channel) = Agent::start();
        let Reply { generation, agent_version, boot_id } = greet(&mut channel, &NONCE).await;
        assert_eq!(generation, GENERATION);
        assert_eq!(agent_version, env!("CARGO_PKG_VERSION"));
        assert_eq!(boot_id.unwrap(), std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    });
}

#[test]
fn a_session_begins_after_stale_bytes_and_repeated_hellos() {
    run(async {
        let (_agent, mut channel) = Agent::start();
        let stale =
            [&hello(&ANOTHER_NONCE, GENERATION)[..20], b"\x00\x00\x00\x01stale", &hello(&ANOTHER_NONCE, GENERATION)]
                .concat();
        channel.write_all(&stale).await.unwrap();
        channel.write_all(&hello(&NONCE, GENERATION)).await.unwrap();
        Host::connect(channel).await.ping().await;
    });
}

#[test]
fn another_generation_is_told_ours() {
    run(async {
        let (_agent, mut channel) = Agent::start();
        channel.write_all(&hello(&NONCE, GENERATION + 1)).await.unwrap();
        let reply: Reply = serde_json::from_slice(&find_packet(&mut channel, Kind::Reply, &NONCE).await).unwrap();
        assert_eq!(reply.generation, GENERATION);
    });
}

#[test]
fn requests_that_make_no_sense_cost_one_stream_each() {
    run(async {
        let (_agent, channel) = Agent::start();
        let host = Host::connect(channel).await;
        let exec = |field: &str, value: &str| {
            let mut exec = serde_json::to_value(HostMessage::Exec(command(&["true"]))).unwrap();
            exec[field] = serde_json::from_str(value).unwrap();
            frame(3, exec.to_string().as_bytes())
        };
        for request in [
            frame(3, b""),
            frame(3, b"not JSON"),
            frame(3, b"{\"type\":\"ping\",\"x\":1}"),
            frame(3, b"{\"type\":\"dance\"}"),
            frame(3, b"{\"type\":\"exec\"}"),
            frame(3, b"{\"type\":\"signal\",\"signal\":15}"),
            frame(3, b"{\"type\":\"signal\",\"pid\":2,\"signal\":0}"),
            frame(3, b"{\"type\":\"signal\",\"pid\":2,\"signal\":65}"),
            frame(0, b"stdin"),
            frame(1, b"stdout"),
            frame(0, b""),
            exec("argv", "[]"),
            exec("argv", "[\"a\\u0000b\"]"),
            exec("cwd", "\"relative\""),
            exec("env", "{\"\":\"x\"}"),
            exec("env", "{\"a=b\":\"x\"}"),
            exec("timeout_ms", "0"),
        ] {
            let mut exchange = host.open().await;
            exchange.send(&request).await;
            let outcome = exchange.outcome().await;
            assert!(
                matches!(outcome.messages[..], [AgentMessage::Error { code: ErrorCode::BadRequest, .. }]),
                "{outcome:?} for {}",
                String::from_utf8_lossy(&request)
            );
        }
        host.ping().await;
    });
}

#[test]
fn nonsense_during_a_command_ends_the_command() {
    run(async {
        let (_agent, channel) = Agent::start();
        let host = Host::connect(channel).await;
        for (stdin, nonsense) in [
            (false, frame(0, b"nobody asked for it")),
            (true, [frame(0, b""), frame(0, b"after the end")].concat()),
            (true, frame(2, b"")),
            (true, frame(3, b"{\"type\":\"signal\",\"pid\":2,\"signal\":15}")),
            (true, frame(3, b"{\"type\":\"ping\"}")),
        ] {
            let mut exchange = host.request(&HostMessage::Exec(Exec { stdin, ..command(&["sleep", "100"]) })).await;
            let pid = exchange.started().await;
            exchange.send(&nonsense).await;
            let outcome = exchange.outcome().await;
            assert!(matches!(outcome.messages[..], [AgentMessage::Error { code: ErrorCode::BadRequest, .. }]));
            wait_for_end(pid).await;
        }
        host.ping().await;
    });
}

#[test]
fn a_broken_frame_ends_the_session_and_a_new_one_can_begin() {
    run(async {
        for broken in [frame(4, b"x"), vec![3, 0, 16, 0, 1]] {
            let (_agent, mut channel) = Agent::start();
            let pid = start_sleeper(&mut channel).await;
            channel.write_all(&open_with(3, &broken)).await.unwrap();
            wait_for_end(pid).await;
            Host::connect(channel).await.ping().await;
        }
    });
}

#[test]
fn bytes_that_are_not_yamux_end_the_session() {
    run(async {
        let (_agent, mut channel) = Agent::start();
        let pid = start_sleeper(&mut channel).await;
        channel.write_all(b"twelve bytes and more").await.unwrap();
        wait_for_end(pid).await;
        Host::connect(channel).await.ping().await;
    });
}

#[test]
fn a_hello_in_the_middle_of_a_session_begins_a_new_one() {
    run(async {
        let (_agent, mut channel) = Agent::start();
        let pid = start_sleeper(&mut channel).await;
        greet(&mut channel, &ANOTHER_NONCE).await;
        wait_for_end(pid).await;
        Host::connect(channel).await.ping().await;
    });
}

#[test]
fn a_host_that_goes_away_takes_its_commands_along() {
    run(async {
        let (mut agent, mut channel) = Agent::start();
        let pid = start_sleeper(&mut channel).await;
        drop(channel);
        wait_for_end(pid).await;
        wait_for_end(agent.pid()).await;
        assert!(agent.process.wait().unwrap().success());
    });
}

#[test]
fn poweroff_is_answered_before_it_happens() {
    run(async {
        let (mut agent, channel) = Agent::start();
        let host = Host::connect(channel).await;
        let outcome = host.request(&HostMessage::Poweroff {}).await.outcome().await;
        assert_eq!(outcome.messages, [AgentMessage::Ok {}]);
        wait_for_end(agent.pid()).await;
        assert!(agent.process.wait().unwrap().success());
    });
}

#[test]
fn one_stream_too_many_is_reset() {
    run(async {
        let (_agent, mut channel) = Agent::start();
        greet(&mut channel, &NONCE).await;
        let streams = pyro_agent::mux::MAX_STREAMS as u32;
        for n in 0..=streams {
            channel.write_all(&open_with(2 * n + 1, b"")).await.unwrap();
        }
        let mut header = [0; 12];
        channel.read_exact(&mut header).await.unwrap();
        let reset = [&[0, 1, 0, 8][..], &(2 * streams + 1).to_be_bytes(), &[0; 4]].concat();
        assert_eq!(header[..], reset);
    });
}
