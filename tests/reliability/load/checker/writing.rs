//! What was acknowledged or refused, against what is in the log.

use std::collections::HashMap;

use burble::model::Position;

use super::super::history::{Answer, Channel, Client, Micros, Refusal, SentMessage};
use super::{Case, Kind, Loss, Standing};

/// When, under which id, and whether as a repetition.
pub(super) fn oks(message: &SentMessage) -> impl Iterator<Item = (Micros, Position, bool)> {
    message.attempts.iter().filter_map(|attempt| match attempt.answer {
        Some((at, Answer::Ok { id, dup })) => Some((at, id, dup)),
        _ => None,
    })
}

impl Case<'_> {
    pub(super) fn judge_messages(&mut self) {
        let recorded = self.recorded;
        for message in &recorded.messages {
            match oks(message).next() {
                Some(_) => {
                    self.judge_acknowledged(message);
                    self.judge_dup(message);
                }
                None => self.judge_refused(message),
            }
        }
    }

    /// It is in the log under the id that was told.
    fn judge_acknowledged(&mut self, message: &SentMessage) {
        let Some((_, id, _)) = oks(message).find(|ok| self.standing(message.channel, ok.1) == Standing::Gone) else {
            return;
        };
        if self.rules.loss == Loss::Allowed {
            return;
        }
        let (name, writer) = (self.channel(message.channel), self.client(message.writer));
        match self.places[message.channel].get(&message.content) {
            Some(places) => {
                let sentence = format!("{writer} was told that its message is at {id} of {name}; it is at {places:?}");
                self.report(Kind::FalseOk, sentence);
            }
            None => self.report(Kind::Lost, format!("{id} of {name}, acknowledged to {writer}, is not in the log")),
        }
    }

    /// All answers name one position, and exactly one of them was the first. What was lost may be written again.
    fn judge_dup(&mut self, message: &SentMessage) {
        let (_, id, _) = oks(message).next().expect("it was acknowledged");
        let firsts = oks(message).filter(|ok| !ok.2).count();
        let one_id = oks(message).all(|ok| ok.1 == id);
        let open = message.attempts.iter().any(|attempt| is_open(attempt.answer));
        let told = format!("the answers to the message at {id} of {}", self.channel(message.channel));
        let refused = message.attempts.iter().any(|attempt| matches!(attempt.answer, Some((_, Answer::Refused(_)))));
        if self.rules.loss != Loss::Allowed && !one_id {
            self.report(Kind::Dup, format!("{told} name several positions"));
        } else if self.rules.loss != Loss::Allowed && firsts > 1 {
            self.report(Kind::Dup, format!("{told} call {firsts} attempts the first"));
        } else if firsts == 0 && !open && refused {
            self.report(Kind::FalseRefusal, format!("{told} refuse it first, and then call it written before"));
        } else if firsts == 0 && !open {
            self.report(Kind::Dup, format!("{told} all call it a repetition"));
        }
    }

    /// It is in the log only if an answer left that open.
    fn judge_refused(&mut self, message: &SentMessage) {
        let (name, writer) = (self.channel(message.channel), self.client(message.writer));
        let last = message.attempts.last().and_then(|attempt| attempt.answer);
        let open = message.attempts.iter().any(|attempt| is_open(attempt.answer));
        if !open && let Some(places) = self.places[message.channel].get(&message.content) {
            let sentence = format!("{writer} was told that its message was not written; {name} has it at {places:?}");
            self.report(Kind::FalseRefusal, sentence);
        }
        match last {
            Some((_, Answer::Refused(Refusal::ForGood))) => {
                self.report(Kind::Refused, format!("{writer} was refused a message to {name} for good"));
            }
            _ => self.report(Kind::Unanswered, format!("{writer} had no final answer to a message to {name}")),
        }
    }

    /// Commands of one session are carried out in order: so are its messages to a channel written.
    pub(super) fn judge_writer_order(&mut self) {
        let recorded = self.recorded;
        let mut written: HashMap<(Client, usize, Channel), Vec<(Micros, Position)>> = HashMap::new();
        for message in &recorded.messages {
            for attempt in &message.attempts {
                if let Some((_, Answer::Ok { id, dup: false })) = attempt.answer {
                    let session = (message.writer, attempt.session, message.channel);
                    written.entry(session).or_default().push((attempt.at, id));
                }
            }
        }
        for ((writer, _, channel), mut ids) in written {
            // Stable: what was sent in the same microsecond keeps the order in which it was recorded.
            ids.sort_by_key(|sent| sent.0);
            for pair in ids.windows(2).filter(|pair| pair[1].1 <= pair[0].1) {
                let (name, writer) = (self.channel(channel), self.client(writer));
                let sentence = format!("{writer} sent what is at {} of {name} before {}", pair[0].1, pair[1].1);
                self.report(Kind::WriterOrder, sentence);
            }
        }
    }
}

/// Whether the attempt may have written the message.
fn is_open(answer: Option<(Micros, Answer)>) -> bool {
    matches!(answer, None | Some((_, Answer::Refused(Refusal::Open))))
}
