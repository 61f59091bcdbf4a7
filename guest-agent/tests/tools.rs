//! The frame that tools run in, and the tool that the agent's own logs are read with.

mod common;

use common::*;
use pyro_agent::message::{AgentMessage, ErrorCode, Exec, HostMessage};
use pyro_agent::tools::request::Tool;
use serde_json::{json, Value};

fn output(id: &str, offset: u64, limit: u64, grep: Option<&str>) -> Tool {
    Tool::Output { id: id.into(), offset, limit, grep: grep.map(str::to_owned) }
}

/// The header of a page and its bytes.
async fn page(host: &Host, tool: Tool) -> (Value, String) {
    let answer = host.tool(tool, None).await.unwrap();
    let end = answer.iter().position(|byte| *byte == b'\n').unwrap();
    let header = serde_json::from_slice(&answer[..end]).unwrap();
    (header, String::from_utf8(answer[end + 1..].to_vec()).unwrap())
}

fn header(offset: u64, next_offset: Option<u64>, total_bytes: u64, running: bool) -> Value {
    json!({"offset": offset, "next_offset": next_offset, "total_bytes": total_bytes, "running": running})
}

async fn host(folders: &Folders) -> (Agent, Host) {
    let (agent, channel) = folders.start();
    (agent, Host::connect(channel).await)
}

#[test]
fn output_comes_in_pages() {
    run(async {
        let folders = Folders::new("tools-pages");
        let (_agent, host) = host(&folders).await;
        host.request(&kept("x-1", "echo 0123456789")).await.outcome().await;
        assert_eq!(page(&host, output("x-1", 0, 4, None)).await, (header(0, Some(4), 11, false), "0123".into()));
        assert_eq!(page(&host, output("x-1", 4, 100, None)).await, (header(4, None, 11, false), "456789\n".into()));
        assert_eq!(page(&host, output("x-1", 11, 100, None)).await, (header(11, None, 11, false), String::new()));
        assert_eq!(page(&host, output("x-1", 99, 100, None)).await, (header(99, None, 11, false), String::new()));
        assert_eq!(page(&host, output("x-1", 3, 0, None)).await, (header(3, Some(3), 11, false), String::new()));
    });
}

#[test]
fn output_of_a_command_that_runs_and_of_one_before_the_boot() {
    run(async {
        let folders = Folders::new("tools-boot");
        let (_agent, host) = host(&folders).await;
        let mut exchange = host.request(&kept("x-1", "echo begun; sleep 100")).await;
        exchange.started().await;
        exchange.next().await.unwrap();
        assert_eq!(page(&host, output("x-1", 0, 100, None)).await, (header(0, None, 6, true), "begun\n".into()));
        std::fs::write(folders.path.join("state/commands/x-0"), "long ago\n").unwrap();
        assert_eq!(page(&host, output("x-0", 5, 100, None)).await, (header(5, None, 9, false), "ago\n".into()));
        let refused = host.tool(output("x-2", 0, 1, None), None).await.unwrap_err();
        assert_eq!(refused["code"], "unknown_command");
    });
}

#[test]
fn output_that_matches() {
    run(async {
        let folders = Folders::new("tools-grep");
        let (_agent, host) = host(&folders).await;
        host.request(&kept("x-1", "seq 1 30; printf 'no newline 7'")).await.outcome().await;
        let total = 93;
        let sevens = "7\n17\n27\nno newline 7";
        for pattern in ["7", "7$", "(?i)7"] {
            let found = page(&host, output("x-1", 0, 100, Some(pattern))).await;
            assert_eq!(found, (header(0, None, total, false), sevens.into()), "{pattern}");
        }
        let (first, text) = page(&host, output("x-1", 0, 5, Some("7"))).await;
        assert_eq!(text, "7\n17\n");
        let next = first["next_offset"].as_u64().unwrap();
        let (rest, text) = page(&host, output("x-1", next, 100, Some("7"))).await;
        assert_eq!((text.as_str(), &rest["next_offset"]), ("27\nno newline 7", &Value::Null));
        let (cut, text) = page(&host, output("x-1", next, 1, Some("7"))).await;
        assert_eq!(text, "2", "a line that is longer than the limit is cut");
        assert!(cut["next_offset"].as_u64().unwrap() > next);
        assert_eq!(page(&host, output("x-1", 0, 100, Some("absent"))).await.1, "");
        let refused = host.tool(output("x-1", 0, 1, Some("(")), None).await.unwrap_err();
        assert_eq!(refused["code"], "bad_pattern");
    });
}

#[test]
fn a_long_output_is_searched_in_several_goes() {
    run(async {
        let folders = Folders::new("tools-long");
        let (_agent, host) = host(&folders).await;
        // The lines are 16 bytes long.
        let script = "yes 'fifteen letters' | head -c 20000000; echo; echo the last one";
        host.request(&kept("x-1", script)).await.outcome().await;
        let mut offset = Some(0);
        let (mut goes, mut found) = (0, String::new());
        while let Some(next) = offset {
            let (header, text) = page(&host, output("x-1", next, 100, Some("the last"))).await;
            found += &text;
            goes += 1;
            offset = header["next_offset"].as_u64();
            assert!(offset.is_none_or(|offset| offset > next && offset % 16 == 0));
        }
        assert_eq!((goes, found.as_str()), (3, "the last one\n"));
    });
}

#[test]
fn tools_need_a_workspace_and_only_some_of_them_stdin() {
    run(async {
        let (_agent, channel) = Agent::start();
        let bare = Host::connect(channel).await;
        let refused = bare.ask(&HostMessage::Tool { tool: Tool::Patch {} }).await;
        assert!(matches!(refused, AgentMessage::Error { code: ErrorCode::NoWorkspace, .. }));
        let folders = Folders::new("tools-stdin");
        let (_agent, host) = host(&folders).await;
        let mut exchange = host.request(&HostMessage::Tool { tool: output("x", 0, 1, None) }).await;
        exchange.send(&frame(0, b"x")).await;
        let outcome = exchange.outcome().await;
        assert!(matches!(outcome.last(), AgentMessage::Error { code: ErrorCode::BadRequest, .. }));
        host.ping().await;
    });
}

#[test]
fn a_tool_has_nothing_of_the_agents_open() {
    run(async {
        let folders = Folders::new("tools-open");
        let (_agent, host) = host(&folders).await;
        let mut sleeper = host.exec(&["sleep", "100"]).await;
        sleeper.started().await;
        let tool = Tool::Write { path: "/workspace/a".into() };
        let mut exchange = host.request(&HostMessage::Tool { tool }).await;
        let pid = exchange.started().await;
        let links = || -> Vec<_> {
            let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect()
        };
        let (inner, outer) = links().into_iter().partition::<Vec<_>, _>(|link| link.starts_with(&folders.path));
        assert!(inner.len() >= 2, "{inner:?}");
        assert_eq!(outer.len(), 3, "its standard streams: {outer:?}");
        assert!(outer.iter().all(|link| link.to_string_lossy().starts_with("pipe:")));
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap().to_owned();
        assert_eq!(session, pid.to_string());
        exchange.send(&[frame(0, b"text"), frame(0, b"")].concat()).await;
        assert_eq!(*exchange.outcome().await.last(), exited(0));
        assert_eq!(std::fs::read(folders.path.join("workspace/a")).unwrap(), b"text");
    });
}

#[test]
fn a_cancelled_tool_tidies_up() {
    run(async {
        let folders = Folders::new("tools-cancel");
        let (_agent, host) = host(&folders).await;
        for reset in [true, false] {
            let tool = Tool::Write { path: "/workspace/a".into() };
            let mut exchange = host.request(&HostMessage::Tool { tool }).await;
            let pid = exchange.started().await;
            exchange.send(&frame(0, &vec![0; 200_000])).await;
            if reset {
                drop(exchange);
            } else {
                exchange.finish().await;
            }
            wait_for_end(pid).await;
            assert_eq!(std::fs::read_dir(folders.path.join("workspace")).unwrap().count(), 0);
        }
    });
}

#[test]
fn a_command_finds_the_workspace_where_it_is() {
    run(async {
        let folders = Folders::new("tools-cwd");
        let (_agent, host) = host(&folders).await;
        std::fs::create_dir(folders.path.join("workspace/below")).unwrap();
        for (cwd, found) in [("/workspace", "workspace"), ("/workspace/below", "workspace/below")] {
            let exec = Exec { cwd: cwd.into(), ..command(&["pwd"]) };
            let outcome = host.request(&HostMessage::Exec(exec)).await.outcome().await;
            assert_eq!(outcome.stdout().trim(), folders.path.join(found).to_str().unwrap());
        }
    });
}
