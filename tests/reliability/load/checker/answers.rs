//! Every command is answered once, in turn.

use std::collections::{HashSet, VecDeque};

use super::super::history::Exchange;
use super::{Case, Kind};

impl Case<'_> {
    pub(super) fn judge_answers(&mut self) {
        let recorded = self.recorded;
        for (client, record) in recorded.clients.iter().enumerate() {
            for session in &record.sessions {
                for (kind, reference) in wrong_answers(session) {
                    let what = match reference {
                        Some(reference) => format!("an answer to command {reference}"),
                        None => "an answer without a ref of its own".to_owned(),
                    };
                    let sentence = match kind {
                        Kind::AnsweredTwice => format!("{} got {what} twice", self.client(client)),
                        Kind::AnsweredOutOfTurn => format!("{} got {what} before its turn", self.client(client)),
                        _ => format!("{} got {what}, which it never asked", self.client(client)),
                    };
                    self.report(kind, sentence);
                }
            }
        }
    }
}

fn wrong_answers(session: &[Exchange]) -> Vec<(Kind, Option<u32>)> {
    let (mut waiting, mut answered, mut wrong) = (VecDeque::new(), HashSet::new(), Vec::new());
    for exchange in session {
        match *exchange {
            Exchange::Asked(reference) => waiting.push_back(reference),
            Exchange::Answered(None) => wrong.push((Kind::AnsweredNothing, None)),
            Exchange::Answered(Some(reference)) => {
                match waiting.iter().position(|&asked| asked == reference) {
                    Some(0) => {}
                    Some(_) => wrong.push((Kind::AnsweredOutOfTurn, Some(reference))),
                    None if answered.contains(&reference) => wrong.push((Kind::AnsweredTwice, Some(reference))),
                    None => wrong.push((Kind::AnsweredNothing, Some(reference))),
                }
                waiting.retain(|&asked| asked != reference);
                answered.insert(reference);
            }
        }
    }
    wrong
}
