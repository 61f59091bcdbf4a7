//! The agent against `protocol/examples.json`, which the host's tests run through as well.

use std::collections::BTreeSet;

use pyro_agent::frame::{header, Broken, Decoder, Part, Tag, HEADER_LEN};
use pyro_agent::machine::Machine;
use pyro_agent::message::{AgentMessage, HostMessage};
use pyro_agent::preamble::{Empty, Packet, Reply, Scanner, GENERATION, MAGIC, NONCE_LEN};
use serde_json::{json, Value};

fn examples() -> Value {
    serde_json::from_str(include_str!("../../protocol/examples.json")).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(include_str!("../../protocol/schema.json")).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    value[name].as_array().unwrap()
}

fn messages(group: &str, direction: &str) -> Vec<Value> {
    let examples = examples();
    let of_direction = list(&examples, group).iter().filter(|example| example["direction"] == direction);
    of_direction.map(|example| example["message"].clone()).collect()
}

/// The names of the messages of one direction, as the schema has them.
fn types_in_schema(direction: &str) -> BTreeSet<String> {
    let schema = schema();
    let kind = |entry: &Value| {
        let definition = entry["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        schema["$defs"][definition]["properties"]["type"]["const"].as_str().unwrap().to_owned()
    };
    list(&schema["$defs"][direction], "oneOf").iter().map(kind).collect()
}

fn types_of(messages: &[Value]) -> BTreeSet<String> {
    messages.iter().map(|message| message["type"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_valid_message_of_the_host_is_taken_and_means_what_it_says() {
    let valid = messages("valid", "host");
    for message in &valid {
        let parsed = HostMessage::parse(message.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(parsed).unwrap(), *message);
    }
    assert_eq!(types_of(&valid), types_in_schema("host"));
}

#[test]
fn every_invalid_message_of_the_host_is_refused() {
    let invalid = messages("invalid", "host");
    assert!(!invalid.is_empty());
    for message in invalid {
        assert!(HostMessage::parse(message.to_string().as_bytes()).is_err(), "{message}");
    }
}

#[test]
fn the_agent_says_every_one_of_its_messages_as_described() {
    let valid = messages("valid", "agent");
    for message in &valid {
        let parsed: AgentMessage = serde_json::from_value(message.clone()).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&parsed.encode()).unwrap(), *message);
    }
    assert_eq!(types_of(&valid), types_in_schema("agent"));
    let codes: BTreeSet<_> = valid.iter().filter_map(|message| message.get("code")).map(Value::to_string).collect();
    let mut schema = schema();
    let described = schema["$defs"]["error"]["properties"]["code"]["enum"].take();
    assert_eq!(codes, described.as_array().unwrap().iter().map(Value::to_string).collect());
}

fn packet(kind: &Value, payload: &Value) -> Vec<u8> {
    let payload = payload.to_string();
    let length = (payload.len() as u32).to_be_bytes();
    [MAGIC, kind.as_str().unwrap().as_bytes(), &[5; NONCE_LEN], &length, payload.as_bytes()].concat()
}

fn scan(example: &Value) -> Option<Packet> {
    let mut scanner = Scanner::default();
    scanner.push(&packet(&example["kind"], &example["payload"]));
    scanner.take_packet()
}

#[test]
fn preambles_of_the_host() {
    let examples = examples();
    let of_host = |group: &str| -> Vec<Value> {
        let all = list(&examples["preambles"], group).iter();
        all.filter(|example| ["H", "S", "P"].iter().any(|kind| example["kind"] == *kind)).cloned().collect()
    };
    let nonce = [5; NONCE_LEN];
    for example in of_host("valid") {
        let payload = &example["payload"];
        let expected = match example["kind"].as_str().unwrap() {
            "H" => Packet::Hello { nonce, generation: payload["generation"].as_u64().unwrap() as u32 },
            "P" => Packet::Prepare { nonce, machine: machine_of(payload).unwrap() },
            _ => Packet::Start { nonce, machine: machine_of(payload) },
        };
        assert_eq!(scan(&example), Some(expected));
    }
    for example in of_host("invalid") {
        assert_eq!(scan(&example), None, "{example}");
    }
}

fn machine_of(payload: &Value) -> Option<Machine> {
    payload.get("machine").map(|machine| serde_json::from_value(machine.clone()).unwrap())
}

#[test]
fn preambles_of_the_agent() {
    let examples = examples();
    let of_kind = |kind: &str| {
        let found = list(&examples["preambles"], "valid").iter().find(|example| example["kind"] == kind);
        found.unwrap()["payload"].clone()
    };
    let reply: Reply = serde_json::from_value(of_kind("R")).unwrap();
    assert_eq!(reply.generation, GENERATION);
    assert_eq!(serde_json::to_value(reply).unwrap(), of_kind("R"));
    assert_eq!(serde_json::to_value(Empty {}).unwrap(), of_kind("A"));
    assert_eq!(serde_json::to_value(Empty {}).unwrap(), of_kind("D"));
}

fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes whole frames; what the example calls an error comes back as one.
fn decode(mut input: &[u8]) -> Result<Vec<(Tag, Vec<u8>)>, &'static str> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    while !input.is_empty() {
        match decoder.next(&mut input) {
            Ok(Some(Part::Data(tag, data))) => frames.push((tag, data.to_vec())),
            Ok(Some(Part::Empty(tag))) => frames.push((tag, Vec::new())),
            Ok(Some(Part::Message(message))) => frames.push((Tag::Message, message)),
            Ok(None) => return Err("incomplete"),
            Err(Broken::UnknownTag(_)) => return Err("unknown_tag"),
            Err(Broken::Oversized(_)) => return Err("oversized"),
        }
    }
    Ok(frames)
}

#[test]
fn frames() {
    for example in list(&examples(), "frames") {
        let input = bytes(&example["hex"]);
        match decode(&input) {
            Err(error) => assert_eq!(json!(error), example["error"]),
            Ok(frames) => {
                let described = |(tag, payload): &(Tag, Vec<u8>)| json!({"tag": *tag as u8, "payload": hex(payload)});
                assert_eq!(Value::from(frames.iter().map(described).collect::<Vec<_>>()), example["frames"]);
                let encoded =
                    frames.iter().flat_map(|(tag, payload)| [&header(*tag, payload.len()), &payload[..]].concat());
                assert_eq!(encoded.collect::<Vec<u8>>(), input);
                assert!(input.len() >= HEADER_LEN);
            }
        }
    }
}
