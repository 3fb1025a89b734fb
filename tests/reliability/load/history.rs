//! What the clients of a run did and saw, by one clock. It records and judges nothing; `checker` does that.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burble::model::{Ends, Position};

/// Microseconds since the run began, by a clock that never goes back.
pub(crate) type Micros = u64;
/// The number of a client, in the order of their coming.
pub(crate) type Client = usize;
/// The number of a channel, in the order of [`Recorded::channels`].
pub(crate) type Channel = usize;
/// Which logical message: its place in [`Recorded::messages`].
pub(crate) type MessageNo = usize;

/// What a message says: sender, `cid` and text, each different triple under a number of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Content(pub(crate) u32);

/// Why a listener was told that something is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GapReason {
    Trimmed,
    EpochChanged,
    RolledBack,
}

/// What happened to a listener in a channel.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Event {
    /// The answer to a join; `since` is what it asked for.
    Joined {
        since: Option<Position>,
        ends: Ends,
    },
    Message {
        position: Position,
        content: Content,
    },
    CaughtUp(Option<Position>),
    Gap(GapReason),
    /// It was taken out, or is no longer let in.
    Left,
    /// The connection ended.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Micros,
    pub(crate) event: Event,
}

/// What an error to a `send` leaves open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It was not written; it may be repeated.
    NotDone,
    /// It may have been written; the same `cid` finds out.
    Open,
    /// It was not written, and repeating does not help.
    ForGood,
}

impl Refusal {
    pub(crate) fn of(code: &str) -> Self {
        match code {
            "outcome_unknown" | "internal" => Self::Open,
            "unavailable" | "rate_limited" | "too_many_joins" | "too_many_sessions" => Self::NotDone,
            "unauthenticated" | "token_expired" => Self::NotDone,
            _ => Self::ForGood,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Ok { id: Position, dup: bool },
    Refused(Refusal),
}

/// One `send` on the wire. Without an answer, the connection was lost, or the run ended first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attempt {
    pub(crate) at: Micros,
    /// Which session of the writer's it was.
    pub(crate) session: usize,
    pub(crate) answer: Option<(Micros, Answer)>,
}

/// A logical message, however often it was sent.
#[derive(Clone, Debug)]
pub(crate) struct SentMessage {
    pub(crate) writer: Client,
    pub(crate) channel: Channel,
    pub(crate) content: Content,
    pub(crate) attempts: Vec<Attempt>,
}

/// A command or an answer, in the order of the wire, by the `ref`; `None` is an answer that bears none of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exchange {
    Asked(u32),
    Answered(Option<u32>),
}

/// The longest time between two signs of life of the server, as a client felt it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Silence {
    last: Option<Micros>,
    pub(crate) longest: Micros,
    over: bool,
}

impl Silence {
    pub(crate) fn heard(&mut self, at: Micros) {
        if !self.over {
            self.longest = self.longest.max(self.last.map_or(0, |last| at - last));
            self.last = Some(at);
        }
    }

    /// Ends the count: the load is over, and what comes after is no silence.
    pub(crate) fn end(&mut self, at: Micros) {
        if self.last.is_some() {
            self.heard(at);
        }
        self.over = true;
    }
}

#[derive(Default, Debug)]
pub(crate) struct ClientRecord {
    pub(crate) user: String,
    /// One list for each session, the last one may be live.
    pub(crate) sessions: Vec<Vec<Exchange>>,
    pub(crate) silence: Silence,
    /// For each channel that it listens to.
    pub(crate) seen: BTreeMap<Channel, Vec<Seen>>,
}

/// A member was taken out; `at` is when the answer came.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) user: String,
    pub(crate) channel: Channel,
    pub(crate) at: Micros,
}

/// Gives each different triple of sender, `cid` and text a number.
#[derive(Default, Debug)]
pub(crate) struct Contents {
    numbers: HashMap<String, Content>,
}

impl Contents {
    pub(crate) fn number(&mut self, from: &str, cid: &str, text: &str) -> Content {
        // A name holds no control character: no two triples make one key.
        let key = format!("{from}\n{}\n{cid}{text}", cid.len());
        let next = Content(u32::try_from(self.numbers.len()).expect("a run has fewer than 2^32 messages"));
        *self.numbers.entry(key).or_insert(next)
    }
}

/// All that was recorded.
#[derive(Default, Debug)]
pub(crate) struct Recorded {
    pub(crate) channels: Vec<String>,
    pub(crate) contents: Contents,
    pub(crate) clients: Vec<ClientRecord>,
    pub(crate) messages: Vec<SentMessage>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) marks: Vec<(String, Micros)>,
    /// Errors to any command, by code.
    pub(crate) codes: BTreeMap<String, u64>,
    /// Tokens that were replaced on a live session, before they ran out.
    pub(crate) renewed: usize,
}

impl Recorded {
    pub(crate) fn client(&mut self, user: &str) -> Client {
        self.clients.push(ClientRecord { user: user.to_owned(), ..Default::default() });
        self.clients.len() - 1
    }

    /// An error, by its code, or what else ended a try.
    pub(crate) fn refused(&mut self, code: &str) {
        *self.codes.entry(code.to_owned()).or_default() += 1;
    }

    /// A new session of the client's; its number.
    pub(crate) fn session(&mut self, client: Client) -> usize {
        self.clients[client].sessions.push(Vec::new());
        self.clients[client].sessions.len() - 1
    }

    pub(crate) fn exchange(&mut self, client: Client, exchange: Exchange) {
        let sessions = &mut self.clients[client].sessions;
        sessions.last_mut().expect("commands go over a session").push(exchange);
    }

    pub(crate) fn saw(&mut self, client: Client, channel: Channel, at: Micros, event: Event) {
        self.clients[client].seen.entry(channel).or_default().push(Seen { at, event });
    }

    pub(crate) fn message(&mut self, writer: Client, channel: Channel, content: Content) -> MessageNo {
        self.messages.push(SentMessage { writer, channel, content, attempts: Vec::new() });
        self.messages.len() - 1
    }

    /// The message goes on the wire, in the latest session of its writer; the number of the attempt.
    pub(crate) fn attempt(&mut self, message: MessageNo, at: Micros) -> usize {
        let session = self.clients[self.messages[message].writer].sessions.len() - 1;
        let attempts = &mut self.messages[message].attempts;
        attempts.push(Attempt { at, session, answer: None });
        attempts.len() - 1
    }

    pub(crate) fn answered(&mut self, message: MessageNo, attempt: usize, at: Micros, answer: Answer) {
        self.messages[message].attempts[attempt].answer = Some((at, answer));
    }
}

/// A handle that all clients of a run share.
#[derive(Clone)]
pub(crate) struct History {
    began: Instant,
    recorded: Arc<Mutex<Recorded>>,
}

impl History {
    /// Its clock starts now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), recorded: Arc::default() }
    }

    pub(crate) fn now(&self) -> Micros {
        u64::try_from(self.began.elapsed().as_micros()).expect("no run lasts half a million years")
    }

    /// Names this moment: the figures tell how long it took from here until every client was served again.
    pub(crate) fn mark(&self, name: &str) {
        let at = self.now();
        self.lock().marks.push((name.to_owned(), at));
    }

    /// For short memory work.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of it, to be judged; the history is empty then.
    pub(crate) fn take(&self) -> Recorded {
        std::mem::take(&mut self.lock())
    }
}
