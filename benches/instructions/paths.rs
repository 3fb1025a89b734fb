//! The paths that every message takes, as the library offers them.

use std::hint::black_box;
use std::sync::Arc;

use burble::hub::{Frame, Hub, Listener, ListenerKey, Read, Room, Touched, Wake, Woken};
use burble::metrics::Metrics;
use burble::model::{
    Channel, ChannelId, ChannelKind, ChannelName, Ends, Entry, LastEpoch, NewMessage, Position, SessionId, Topic,
    UserId, UserName,
};
use burble::protocol::{self, Answer, Command, Event, Sent};
use tokio::time::Instant;

/// Something that is done again and again.
pub(crate) struct HotPath {
    pub(crate) name: &'static str,
    /// Prepares it, and does it so many times.
    pub(crate) run: fn(u32),
}

pub(crate) const PATHS: &[HotPath] = &[
    HotPath { name: "decode a send", run: decode_send },
    HotPath { name: "decode a join", run: decode_join },
    HotPath { name: "encode an ok to send", run: encode_ok },
    HotPath { name: "encode what the log keeps of a message", run: encode_body },
    HotPath { name: "encode the frame of a message", run: encode_frame },
    HotPath { name: "one message to 1 listener", run: |times| fan_out(1, 1, times) },
    HotPath { name: "one message to 100 listeners", run: |times| fan_out(100, 1, times) },
    HotPath { name: "16 messages at once to 100 listeners", run: |times| fan_out(100, 16, times) },
];

const SEND: &str = r#"{"ref":10000000,"op":"send","channel":"tea","text":"0000000001-0000000000000002xxxxxxxxxxxxxxxxxxxxxxxxxxxxx","cid":"a-1"}"#;
const JOIN: &str = r#"{"ref":10000000,"op":"join","channel":"tea","since":"1763923812-1043"}"#;

fn decode_send(times: u32) {
    for _ in 0..times {
        black_box(protocol::decode(black_box(SEND)));
    }
}

fn decode_join(times: u32) {
    for _ in 0..times {
        black_box(protocol::decode(black_box(JOIN)));
    }
}

fn encode_ok(times: u32) {
    let reference = protocol::decode(SEND).reference;
    let sent = Sent { id: position(1043), at: 1_763_923_812_000, dup: false };
    for _ in 0..times {
        let answer = Event::Ok { reference: reference.as_ref(), answer: Answer::Sent(black_box(sent)) };
        black_box(protocol::encode(&answer));
    }
}

fn encode_body(times: u32) {
    let (from, message) = (user(), message());
    for _ in 0..times {
        black_box(protocol::message_body(black_box(&from), black_box(&message)));
    }
}

fn encode_frame(times: u32) {
    let (channel, entry) = (channel().name, entry(1043));
    for _ in 0..times {
        black_box(protocol::message(black_box(&channel), black_box(&entry)));
    }
}

/// A session as the hub sees it.
struct Subscriber {
    room: Arc<Room>,
    key: ListenerKey,
    wake: Arc<Wake>,
    cursor: Position,
    generation: u64,
}

/// Puts `burst` messages into the ring, wakes all listeners, and has each read what is there.
fn fan_out(listeners: u32, burst: u32, times: u32) {
    let (hub, channel) = (Hub::new(Metrics::unobserved()), Arc::new(channel()));
    let mut subscribers: Vec<_> = (0..listeners).map(|_| subscribe(&hub, &channel)).collect();
    let (mut touched, mut woken, mut frames) = (Touched::default(), Woken::default(), Vec::new());
    let mut entry = entry(0);
    for _ in 0..times {
        for _ in 0..burst {
            entry.position.seq += 1;
            hub.deliver(channel.id, entry.position, &mut touched, |channel| Frame {
                position: entry.position,
                at: entry.at,
                text: protocol::message(&channel.name, &entry),
            });
        }
        hub.wake(&mut touched);
        for subscriber in &mut subscribers {
            subscriber.read(&mut woken, &mut frames);
            assert_eq!(frames.len(), burst as usize, "every listener has every message");
            black_box(&frames);
            frames.clear();
        }
    }
}

impl Subscriber {
    fn read(&mut self, woken: &mut Woken, frames: &mut Vec<Frame>) {
        self.wake.take(woken);
        for _ in woken.subscriptions.drain(..) {
            loop {
                let read = self.room.read(self.key, self.cursor, self.generation, frames).0;
                self.cursor = frames.last().map_or(self.cursor, |frame| frame.position);
                if read != Read::Frames {
                    break;
                }
            }
        }
    }
}

fn subscribe(hub: &Hub, channel: &Arc<Channel>) -> Subscriber {
    let wake = Arc::new(Wake::default());
    let listener = Listener::new(wake.clone(), 0, SessionId::new(), UserId::new(), None);
    let (room, key) = hub.listen(channel, listener);
    let generation = room.seen(key).generation;
    room.learn(generation, Ends { first: Some(position(0)), last: Some(position(0)) }, Instant::now());
    Subscriber { room, key, wake, cursor: position(0), generation }
}

fn position(seq: u64) -> Position {
    Position { epoch: 1_763_923_812, seq }
}

fn entry(seq: u64) -> Entry {
    let body = protocol::message_body(&user(), &message());
    Entry { position: position(seq), at: 1_763_923_812_000, body }
}

fn message() -> NewMessage {
    match protocol::decode(SEND).command {
        Ok(Command::Send(send)) => send.message,
        _ => unreachable!("it is a send"),
    }
}

fn user() -> UserName {
    "bench-1-0".parse().expect("a name")
}

fn channel() -> Channel {
    Channel {
        id: ChannelId::new(),
        name: "tea".parse::<ChannelName>().expect("a name"),
        kind: ChannelKind::Public,
        topic: Topic::try_from(String::new()).expect("a topic may be empty"),
        created_at: 0,
        epoch_floor: 0,
        last_epoch: LastEpoch::default(),
    }
}
