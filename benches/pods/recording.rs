//! Watch events of many pods, made from the recorded events of one pod.

use std::io::Write;
use std::net::Ipv4Addr;

use crate::support::world;

use super::task::{SERVICES_PER_NAMESPACE, Shape, Task};

/// Three events that benches/pods/record recorded from a real API server: not ready, ready, deleted.
const RECORDED: &str = include_str!("watch.jsonl");
/// Texts of the recording that are replaced for each pod. Some contain others: the longer one is replaced.
const NAME: &str = "backend-api-service-6d4b75cb6d-x7k2q";
const ECS_SERVICE: &str = "backend-api-service";
const TASK_ID: &str = "0123456789abcdef0123456789abcdef";
const SERVICE_ID: &str = "srv-0123456789abcdef";
const ADDRESS: &str = "10.42.0.24";
/// Fields at the beginning of an object of a watch, which the objects of a list do not have.
const TYPE: &str = r#""kind":"Pod","apiVersion":"v1","#;

pub(crate) struct Recording([Vec<Piece>; 3]);

#[derive(Clone, Copy)]
enum Piece {
    Text(&'static str),
    Name,
    EcsService,
    TaskId,
    ServiceId,
    Uid,
    Address,
    Revision,
}

impl Recording {
    pub(crate) fn new() -> Recording {
        let lines: Vec<&'static str> = RECORDED.lines().collect();
        let lines: [&str; 3] = lines.try_into().expect("three lines");
        Recording(lines.map(|line| {
            let (_, object) = line.split_once(r#""object":"#).expect("an event");
            split(object.strip_suffix('}').expect("an event"))
        }))
    }

    /// Appends the pod's object, with [`TYPE`] as in a watch or without it as in a list.
    pub(crate) fn object(
        &self,
        shape: Shape,
        task: &Task,
        revision: u64,
        with_type: bool,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        for piece in &self.0[shape as usize] {
            piece.write(task, revision, out);
        }
        if !with_type {
            let end = start + 1 + TYPE.len();
            assert_eq!(&out[start + 1..end], TYPE.as_bytes(), "the object begins with its kind");
            out.drain(start + 1..end);
        }
    }

    pub(crate) fn event(&self, kind: &str, shape: Shape, task: &Task, revision: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(r#"{{"type":"{kind}","object":"#).as_bytes());
        self.object(shape, task, revision, true, out);
        out.extend_from_slice(b"}\n");
    }
}

impl Piece {
    fn write(&self, task: &Task, revision: u64, out: &mut Vec<u8>) {
        let (namespace, service) =
            (task.service / SERVICES_PER_NAMESPACE, task.service % SERVICES_PER_NAMESPACE);
        let number = task.number;
        let ecs_service = || format!("team-{namespace:02}-{}", world::service_name(service));
        let written = match self {
            Piece::Text(text) => out.write_all(text.as_bytes()),
            Piece::Name => write!(out, "{}-6d4b75cb6d-{number:05x}", ecs_service()),
            Piece::EcsService => out.write_all(ecs_service().as_bytes()),
            Piece::TaskId => out.write_all(world::instance_id(number).as_bytes()),
            Piece::ServiceId => out.write_all(task.service_id.as_str().as_bytes()),
            Piece::Uid => write!(out, "{:08x}-0b2e-4c1d-9a3f-{number:012x}", number as u32),
            Piece::Address => write!(out, "{}", Ipv4Addr::from(task.address)),
            Piece::Revision => write!(out, r#""resourceVersion":"{revision}""#),
        };
        written.expect("writing to memory");
    }
}

fn split(object: &'static str) -> Vec<Piece> {
    let value: serde_json::Value = serde_json::from_str(object).expect("JSON");
    let field = |name: &str| value["metadata"][name].as_str().expect("a text").to_string();
    let (uid, revision) = (field("uid"), format!(r#""resourceVersion":"{}""#, field("resourceVersion")));
    let replaced = [
        (NAME, Piece::Name),
        (ECS_SERVICE, Piece::EcsService),
        (TASK_ID, Piece::TaskId),
        (SERVICE_ID, Piece::ServiceId),
        (uid.as_str(), Piece::Uid),
        (ADDRESS, Piece::Address),
        (revision.as_str(), Piece::Revision),
    ];
    let mut pieces = Vec::new();
    let mut rest = object;
    loop {
        // Take the first match, and the longer one of two at the same offset.
        let found = replaced.iter().filter_map(|(text, piece)| Some((rest.find(text)?, text.len(), piece)));
        let Some((at, len, piece)) = found.min_by_key(|(at, len, _)| (*at, usize::MAX - len)) else { break };
        pieces.extend([Piece::Text(&rest[..at]), *piece]);
        rest = &rest[at + len..];
    }
    pieces.push(Piece::Text(rest));
    pieces
}
