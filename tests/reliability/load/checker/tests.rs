//! A good run passes; broken in one way, it is that violation and no other.

use burble::model::Ends;
use proptest::prelude::*;

use super::super::history::{Answer, Exchange, GapReason, Micros, Refusal, Removal, Seen};
use super::Kind::*;
use super::*;

const TEA: Channel = 0;
const WRITER: Client = 0;
/// Joined from the beginning.
const BOB: Client = 1;
/// Joined live, lost the connection, came back.
const EVE: Client = 2;

fn at(seq: u64) -> Position {
    Position { epoch: 7, seq }
}

/// After the log was begun anew.
fn anew(seq: u64) -> Position {
    Position { epoch: 8, seq }
}

fn ends(last: Option<Position>) -> Ends {
    Ends { first: last.map(|_| at(0)), last }
}

struct Run {
    recorded: Recorded,
    log: Log,
    now: Micros,
}

impl Run {
    fn new() -> Self {
        let mut recorded = Recorded { channels: vec!["tea".into()], ..Default::default() };
        for user in ["ann", "bob", "eve"] {
            let client = recorded.client(user);
            recorded.session(client);
        }
        Self { recorded, log: Log::default(), now: 0 }
    }

    fn tick(&mut self) -> Micros {
        self.now += 1_000;
        self.now
    }

    fn content(&mut self, number: u64) -> Content {
        let text = number.to_string();
        self.recorded.contents.number("ann", &text, &text)
    }

    /// A message that is under way.
    fn ask(&mut self, number: u64) -> MessageNo {
        let (content, now) = (self.content(number), self.tick());
        let message = self.recorded.message(WRITER, TEA, content);
        self.recorded.attempt(message, now);
        message
    }

    fn answer(&mut self, message: MessageNo, answer: Answer) {
        let now = self.tick();
        let attempt = self.recorded.messages[message].attempts.len() - 1;
        self.recorded.answered(message, attempt, now, answer);
    }

    /// Sent again, and answered.
    fn repeat(&mut self, message: MessageNo, answer: Answer) {
        let now = self.tick();
        self.recorded.attempt(message, now);
        self.answer(message, answer);
    }

    /// Sent, logged and acknowledged.
    fn write(&mut self, number: u64, id: Position) -> MessageNo {
        let message = self.ask(number);
        self.log.entries.push((id, self.recorded.messages[message].content));
        self.answer(message, Answer::Ok { id, dup: false });
        message
    }

    fn saw(&mut self, client: Client, event: Event) {
        let now = self.tick();
        self.recorded.saw(client, TEA, now, event);
    }

    fn joins(&mut self, client: Client, since: Option<Position>, last: Option<Position>) {
        self.saw(client, Event::Joined { since, ends: ends(last) });
    }

    fn hears(&mut self, client: Client, number: u64, position: Position) {
        let content = self.content(number);
        self.saw(client, Event::Message { position, content });
    }

    fn seen(&mut self, client: Client) -> &mut Vec<Seen> {
        self.recorded.clients[client].seen.get_mut(&TEA).expect("it listens")
    }

    /// The place of a message in what a client saw.
    fn place(&mut self, client: Client, at: Position) -> usize {
        let is = |seen: &Seen| matches!(seen.event, Event::Message { position, .. } if position == at);
        self.seen(client).iter().position(is).expect("it saw that")
    }

    fn kinds(&self, rules: Rules) -> Vec<Kind> {
        let mut kinds: Vec<_> = self.outcome(rules).violations.into_iter().map(|violation| violation.kind).collect();
        kinds.dedup();
        kinds
    }

    fn outcome(&self, rules: Rules) -> Outcome {
        check(&self.recorded, std::slice::from_ref(&self.log), rules)
    }
}

/// Six messages; bob hears all, eve those from the third on, with a break after the fourth.
fn good() -> Run {
    let mut run = Run::new();
    run.joins(BOB, Some(Position::BEGINNING), None);
    run.saw(BOB, Event::CaughtUp(None));
    for number in 0..2 {
        run.write(number, at(number));
        run.hears(BOB, number, at(number));
    }
    run.joins(EVE, None, Some(at(1)));
    for number in 2..6 {
        run.write(number, at(number));
        run.hears(BOB, number, at(number));
    }
    run.hears(EVE, 2, at(2));
    run.hears(EVE, 3, at(3));
    run.saw(EVE, Event::Lost);
    run.recorded.session(EVE);
    run.joins(EVE, Some(at(3)), Some(at(5)));
    run.hears(EVE, 4, at(4));
    run.hears(EVE, 5, at(5));
    run.saw(EVE, Event::CaughtUp(Some(at(5))));
    run
}

/// The good run with one thing changed is exactly these violations.
#[track_caller]
fn broken(change: impl FnOnce(&mut Run), expected: &[Kind]) {
    let mut run = good();
    change(&mut run);
    let outcome = run.outcome(Rules::default());
    assert_eq!(run.kinds(Rules::default()), expected, "{:#?}", outcome.violations);
    assert!(outcome.violations.iter().all(|violation| !violation.sentence.is_empty()));
}

fn ok(id: Position, dup: bool) -> Answer {
    Answer::Ok { id, dup }
}

#[test]
fn a_good_run_passes_and_is_counted() {
    let mut run = good();
    run.recorded.marks.push(("killed".into(), 5_500));
    let outcome = run.outcome(Rules::default());
    assert_eq!(outcome.violations, []);
    let figures = outcome.figures;
    assert_eq!((figures.sent, figures.acknowledged, figures.delivered), (6, 6, 10));
    assert_eq!((figures.reconnects, figures.repeated, figures.lost), (1, 0, 0));
    assert_eq!((figures.send_to_ok.count, figures.send_to_delivery.count), (6, 10));
    let eve = run.place(EVE, at(2));
    let served_last = run.seen(EVE)[eve].at - 5_500;
    assert_eq!(figures.recovered, [("killed".into(), Some(std::time::Duration::from_micros(served_last)))]);
}

#[test]
fn repetitions_after_open_answers_pass() {
    broken(
        |run| {
            for refusal in [Refusal::Open, Refusal::NotDone] {
                let number = run.log.entries.len() as u64;
                let message = run.ask(number);
                run.answer(message, Answer::Refused(refusal));
                run.log.entries.push((at(number), run.recorded.messages[message].content));
                run.repeat(message, ok(at(number), refusal == Refusal::Open));
                run.repeat(message, ok(at(number), true));
                run.hears(BOB, number, at(number));
                run.hears(EVE, number, at(number));
            }
        },
        &[],
    );
}

#[test]
fn what_was_acknowledged_is_in_the_log_under_its_id() {
    // The last one is nowhere; the listeners are ahead of the log.
    broken(
        |run| {
            run.log.entries.pop();
        },
        &[Lost],
    );
    broken(
        |run| {
            let message = run.ask(6);
            run.log.entries.push((at(6), run.recorded.messages[message].content));
            run.answer(message, ok(at(7), false));
            run.hears(BOB, 6, at(6));
            run.hears(EVE, 6, at(6));
        },
        &[FalseOk],
    );
    broken(
        |run| {
            run.log.entries.remove(3);
        },
        &[Lost, LogOrder, SilentLoss],
    );
}

#[test]
fn a_position_is_one_content_for_everybody() {
    broken(
        |run| {
            let other = run.content(0);
            let place = run.place(EVE, at(4));
            run.seen(EVE)[place].event = Event::Message { position: at(4), content: other };
        },
        &[TwoContents],
    );
    // A position that was lost is handed out again.
    broken(
        |run| run.recorded.messages[5].attempts[0].answer = Some((9_000, ok(at(4), false))),
        &[TwoContents, WriterOrder],
    );
}

#[test]
fn the_log_is_dense_and_holds_what_was_sent_once() {
    broken(|run| run.log.entries[5].0 = at(6), &[FalseOk, LogOrder, Behind]);
    broken(
        |run| {
            let stranger = run.recorded.contents.number("mallory", "1", "1");
            run.log.entries.push((at(6), stranger));
            for client in [BOB, EVE] {
                run.saw(client, Event::Message { position: at(6), content: stranger });
            }
        },
        &[Foreign],
    );
    broken(
        |run| {
            let again = run.log.entries[5].1;
            run.log.entries.push((at(6), again));
            run.hears(BOB, 5, at(6));
            run.hears(EVE, 5, at(6));
        },
        &[DoubledInLog],
    );
}

#[test]
fn a_refusal_means_what_it_says() {
    let refused = |refusal| {
        move |run: &mut Run| {
            let message = run.write(6, at(6));
            run.recorded.messages[message].attempts[0].answer = Some((run.now, Answer::Refused(refusal)));
            run.hears(BOB, 6, at(6));
            run.hears(EVE, 6, at(6));
        }
    };
    broken(refused(Refusal::NotDone), &[FalseRefusal, Unanswered]);
    broken(refused(Refusal::ForGood), &[FalseRefusal, Refused]);
    broken(refused(Refusal::Open), &[Unanswered]);
    broken(
        |run| {
            let answer = Answer::Refused(Refusal::NotDone);
            run.recorded.messages[5].attempts[0].answer = Some((1, answer));
            run.repeat(5, ok(at(5), true));
        },
        &[FalseRefusal],
    );
    broken(
        |run| {
            run.ask(6);
        },
        &[Unanswered],
    );
    broken(
        |run| {
            let message = run.ask(6);
            run.answer(message, Answer::Refused(Refusal::ForGood));
        },
        &[Refused],
    );
}

#[test]
fn of_all_answers_to_a_cid_one_is_the_first() {
    broken(|run| run.repeat(5, ok(at(5), true)), &[]);
    broken(|run| run.repeat(5, ok(at(5), false)), &[Dup, WriterOrder]);
    broken(|run| run.repeat(5, ok(at(4), true)), &[TwoContents, Dup]);
    broken(|run| run.recorded.messages[5].attempts[0].answer = Some((1, ok(at(5), true))), &[Dup]);
}

#[test]
fn a_session_writes_in_order() {
    broken(
        |run| {
            let (one, other) = (run.recorded.messages[4].attempts[0], run.recorded.messages[5].attempts[0]);
            run.recorded.messages[4].attempts[0].at = other.at;
            run.recorded.messages[5].attempts[0].at = one.at;
        },
        &[WriterOrder],
    );
}

#[test]
fn commands_are_answered_once_in_turn() {
    let exchanged = |exchanges: &[Exchange]| {
        let exchanges = exchanges.to_vec();
        move |run: &mut Run| exchanges.iter().for_each(|&exchange| run.recorded.exchange(WRITER, exchange))
    };
    let (asked, answered) = (Exchange::Asked, |reference| Exchange::Answered(Some(reference)));
    broken(exchanged(&[asked(1), asked(2), answered(1), answered(2), asked(3)]), &[]);
    broken(exchanged(&[asked(1), answered(1), answered(1)]), &[AnsweredTwice]);
    broken(exchanged(&[asked(1), answered(2)]), &[AnsweredNothing]);
    broken(exchanged(&[asked(1), Exchange::Answered(None)]), &[AnsweredNothing]);
    broken(exchanged(&[asked(1), asked(2), answered(2), answered(1)]), &[AnsweredOutOfTurn]);
}

#[test]
fn a_listener_gets_each_message_once_and_in_order() {
    broken(|run| run.hears(BOB, 5, at(5)), &[Doubled]);
    // Also across a reconnect.
    broken(
        |run| {
            let (place, again) = (run.place(EVE, at(4)), run.place(EVE, at(3)));
            let again = run.seen(EVE)[again];
            run.seen(EVE).insert(place, again);
        },
        &[Doubled],
    );
    broken(
        |run| {
            let place = run.place(BOB, at(3));
            run.seen(BOB).swap(place, place + 1);
        },
        &[Reordered, Jumped],
    );
    for client in [BOB, EVE] {
        broken(
            |run| {
                let place = run.place(client, at(4));
                run.seen(client).remove(place);
            },
            &[Jumped],
        );
    }
}

#[test]
fn a_gap_needs_a_reason_and_does_not_excuse_what_the_log_has() {
    let instead = |reason| {
        move |run: &mut Run| {
            let place = run.place(BOB, at(4));
            run.seen(BOB)[place].event = Event::Gap(reason);
        }
    };
    broken(instead(GapReason::Trimmed), &[WrongGap, Missed]);
    broken(instead(GapReason::RolledBack), &[WrongGap, Missed]);
    broken(instead(GapReason::EpochChanged), &[WrongGap, Missed]);
}

#[test]
fn caught_up_comes_after_all_that_it_speaks_of() {
    broken(|run| run.seen(EVE).last_mut().expect("it has some").event = Event::CaughtUp(Some(at(4))), &[EarlyCaughtUp]);
    broken(
        |run| {
            let last = run.seen(EVE).len() - 1;
            run.seen(EVE).swap(last, last - 1);
        },
        &[EarlyCaughtUp],
    );
    broken(
        |run| {
            run.seen(EVE).pop();
        },
        &[NeverCaughtUp],
    );
}

#[test]
fn at_the_end_a_listener_has_seen_the_head() {
    broken(
        |run| {
            run.seen(BOB).pop();
        },
        &[Behind],
    );
    broken(|run| run.seen(BOB).clear(), &[Behind]);
    // What a live join's answer told is owed from there on.
    broken(|run| run.seen(EVE)[0].event = Event::Joined { since: None, ends: ends(Some(at(0))) }, &[Jumped]);
}

#[test]
fn who_left_or_was_removed_hears_no_more() {
    let removal = |run: &mut Run, at| run.recorded.removals.push(Removal { user: "bob".into(), channel: TEA, at });
    broken(
        |run| {
            let place = run.place(BOB, at(5));
            let before = run.seen(BOB)[place - 1];
            run.seen(BOB).insert(place, Seen { event: Event::Left, ..before });
        },
        &[Refused, AfterLeft],
    );
    broken(
        |run| {
            run.saw(BOB, Event::Left);
            let now = run.now;
            removal(run, now);
            run.write(6, at(6));
            run.hears(EVE, 6, at(6));
        },
        &[],
    );
    broken(
        |run| {
            let sent_at = run.recorded.messages[5].attempts[0].at;
            removal(run, sent_at - 1);
        },
        &[AfterRemoval],
    );
}

/// Redis lost the last two messages, which eve had seen; a new epoch began.
fn lossy() -> Run {
    let mut run = good();
    run.log.entries.truncate(4);
    for client in [BOB, EVE] {
        run.saw(client, Event::Gap(GapReason::RolledBack));
    }
    for number in [6, 7] {
        run.write(number, anew(number - 6));
        run.hears(BOB, number, anew(number - 6));
        run.hears(EVE, number, anew(number - 6));
    }
    run
}

#[test]
fn a_loss_that_may_be_is_counted_and_must_be_told() {
    let rules = Rules { loss: Loss::Allowed, retention: None };
    let mut run = lossy();
    assert_eq!(run.kinds(rules), []);
    let figures = run.outcome(rules).figures;
    assert_eq!((figures.lost, figures.gaps[&GapReason::RolledBack]), (2, 2));
    assert_eq!(run.kinds(Rules::default()), [Lost, WrongGap]);
    let gap = run.place(BOB, anew(0)) - 1;
    run.seen(BOB)[gap].event = Event::Gap(GapReason::Trimmed);
    assert_eq!(run.kinds(rules), [WrongGap, SilentLoss]);
    run.seen(BOB).remove(gap);
    assert_eq!(run.kinds(rules), [SilentLoss]);
    // Nothing came after the loss, and nobody said so.
    let mut quiet = good();
    quiet.log.entries.truncate(4);
    assert_eq!(quiet.kinds(rules), [SilentLoss]);
}

#[test]
fn what_nobody_was_told_is_written_may_vanish_where_that_is_told() {
    let rules = Rules { loss: Loss::Unacknowledged, retention: None };
    assert_eq!(lossy().kinds(rules), [Lost], "what was acknowledged may not");
    let mut run = lossy();
    for message in [4, 5] {
        let attempt = &mut run.recorded.messages[message].attempts[0];
        attempt.answer = attempt.answer.map(|(at, _)| (at, Answer::Refused(Refusal::Open)));
    }
    run.recorded.messages[4].attempts.truncate(1);
    let found = run.kinds(rules);
    assert!(!found.contains(&Lost) && !found.contains(&Vanished) && !found.contains(&SilentLoss), "{found:?}");
    assert!(run.kinds(Rules::default()).contains(&Vanished));
    let gap = run.place(BOB, anew(0)) - 1;
    run.seen(BOB).remove(gap);
    assert!(run.kinds(rules).contains(&SilentLoss));
}

#[test]
fn a_new_epoch_without_loss_is_legal_and_announced() {
    let mut run = good();
    for client in [BOB, EVE] {
        run.saw(client, Event::Gap(GapReason::EpochChanged));
    }
    run.write(6, anew(0));
    run.hears(BOB, 6, anew(0));
    run.hears(EVE, 6, anew(0));
    assert_eq!(run.kinds(Rules::default()), []);
    let gap = run.place(EVE, anew(0)) - 1;
    run.seen(EVE).remove(gap);
    assert_eq!(run.kinds(Rules::default()), [Jumped]);
}

#[test]
fn what_retention_took_is_no_loss() {
    let rules = Rules { loss: Loss::Forbidden, retention: Some(2) };
    let mut run = good();
    run.log.entries.drain(..4);
    let (from, to) = (run.place(EVE, at(2)), run.place(EVE, at(3)));
    run.seen(EVE).drain(from..=to);
    let rejoin = from + 1;
    run.seen(EVE)[rejoin].event = Event::Joined { since: Some(at(1)), ends: ends(Some(at(5))) };
    run.seen(EVE).insert(rejoin + 1, Seen { at: 1, event: Event::Gap(GapReason::Trimmed) });
    assert_eq!(run.kinds(rules), []);
    run.log.entries.remove(0);
    assert_ne!(run.kinds(rules), [], "fewer than it keeps");
}

proptest! {
    /// Any run of a faultless server passes, and any one entry taken from what a listener saw is noticed.
    #[test]
    fn a_faultless_run_passes_and_no_hole_goes_unseen(
        count in 1_u64..40, breaks in prop::collection::btree_set(0_u64..40, 0..6), hole in any::<prop::sample::Index>()
    ) {
        let mut run = Run::new();
        run.joins(BOB, Some(Position::BEGINNING), None);
        run.saw(BOB, Event::CaughtUp(None));
        for number in 0..count {
            run.write(number, at(number));
            run.hears(BOB, number, at(number));
            if breaks.contains(&number) {
                run.saw(BOB, Event::Lost);
                run.joins(BOB, Some(at(number)), Some(at(number)));
                run.saw(BOB, Event::CaughtUp(Some(at(number))));
            }
        }
        prop_assert_eq!(run.kinds(Rules::default()), []);
        let place = run.place(BOB, at(hole.index(usize::try_from(count).expect("few")) as u64));
        run.seen(BOB).remove(place);
        prop_assert_ne!(run.kinds(Rules::default()), []);
    }
}
