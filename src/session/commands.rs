//! Carrying out commands: one `match`, one method an arm. Each is answered exactly once, in order.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::rate::Verdict;
use super::socket::End;
use super::{Sending, Session, oldest};
use crate::clock;
use crate::error::{Error, Result};
use crate::model::{Anchor, ChannelName, Ends, PageLimit, Position};
use crate::protocol::{self, Answer, CloseCode, Command, Event, Ref, Request, SendMessage};

impl Session {
    /// Reads one command and carries it out, or holds it until the sends before it are answered.
    pub(super) async fn command(&mut self, text: &str) -> Result<(), End> {
        self.commands += 1;
        if let Some(pause) = self.rates.pause(text.len()) {
            self.all.metrics.refused_total.with(["user_bytes"]).increment(1);
            let until = Instant::now() + pause;
            self.read_at = Some(until);
            // Who is not read is not silent.
            self.socket.seen_at = until;
        }
        let request = match self.rates.check() {
            Verdict::Go => protocol::decode(text),
            Verdict::Later(after, reason) => {
                self.all.metrics.refused_total.with([reason]).increment(1);
                Request { command: Err(Error::RateLimited(after)), ..protocol::decode(text) }
            }
            Verdict::Flooding => return Err(End::Close(CloseCode::Flooding)),
        };
        if self.has_to_wait(&request) {
            self.held = Some(Box::new(request));
            return Ok(());
        }
        // Boxed, here and below: what a command needs while it is carried out is no part of an idle session.
        Box::pin(self.carry_out(request)).await
    }

    /// Sends to one channel are written in their order, so they need not wait for each other; all else has to.
    fn has_to_wait(&self, request: &Request) -> bool {
        let next = match &request.command {
            Ok(Command::Send(send)) => Some(&send.channel),
            _ => None,
        };
        !self.pending.is_empty() && (next.is_none() || next != self.pending_channel.as_ref())
    }

    async fn carry_out(&mut self, Request { reference, command }: Request) -> Result<(), End> {
        let began = Instant::now();
        let reference = reference.as_ref();
        let command = match command {
            Ok(command) => command,
            Err(error) => return self.refuse(reference, &error).await,
        };
        let op = command.op();
        match command {
            Command::Send(send) => {
                self.send(reference.cloned(), send, began).await;
                return Ok(());
            }
            Command::Auth { token } => self.renew(reference, &token).await?,
            Command::Join { channel, since } => self.join(reference, &channel, since).await?,
            Command::Resume { since } => self.resume(reference, since).await?,
            Command::Leave { channel } => self.leave(reference, &channel).await?,
            Command::History { channel, anchor, limit } => {
                self.history(reference, &channel, anchor, limit).await?;
            }
            Command::Typing { channel } => self.typing(reference, &channel).await?,
            Command::Ping => self.answer(reference, Ok(Answer::Pong { at: clock::now_ms() })).await?,
        }
        self.all.metrics.command_seconds.with([op]).record(began.elapsed());
        Ok(())
    }

    async fn send(&mut self, reference: Option<Ref>, SendMessage { channel, message }: SendMessage, began: Instant) {
        let sending = self.all.chat.send(&self.caller, &channel, &message).await;
        self.pending_channel = Some(channel);
        self.pending.push_back(
            async move {
                let outcome = match sending {
                    Ok(sending) => sending.outcome().await,
                    Err(error) => Err(error),
                };
                Sending { reference, began, outcome }
            }
            .boxed(),
        );
    }

    /// Answers a send and all that are ready behind it, then goes on with the command that waited.
    pub(super) async fn answer_sends(&mut self, sending: Sending) -> Result<(), End> {
        self.answer_send(sending).await?;
        while let Some(sending) = oldest(&mut self.pending).now_or_never() {
            self.answer_send(sending).await?;
        }
        match self.held.take() {
            Some(held) if self.has_to_wait(&held) => self.held = Some(held),
            Some(held) => return Box::pin(self.carry_out(*held)).await,
            None => {}
        }
        Ok(())
    }

    pub(super) async fn answer_send(&mut self, sending: Sending) -> Result<(), End> {
        let Sending { reference, began, outcome } = sending;
        self.answer(reference.as_ref(), outcome.map(Answer::Sent)).await?;
        self.all.metrics.command_seconds.with(["send"]).record(began.elapsed());
        Ok(())
    }

    async fn join(
        &mut self,
        reference: Option<&Ref>,
        channel: &ChannelName,
        since: Option<Position>,
    ) -> Result<(), End> {
        match self.attach(channel, since).await {
            Ok((subscription, ends)) => {
                self.answer(reference, Ok(Answer::Joined(ends))).await?;
                self.pump(subscription).await
            }
            Err(error) => self.refuse(reference, &error).await,
        }
    }

    async fn resume(&mut self, reference: Option<&Ref>, since: BTreeMap<ChannelName, Position>) -> Result<(), End> {
        let mut joined: BTreeMap<ChannelName, Ends> = BTreeMap::new();
        let mut refused: BTreeMap<ChannelName, &'static str> = BTreeMap::new();
        let mut subscriptions = Vec::with_capacity(since.len());
        for (channel, since) in since {
            match self.attach(&channel, Some(since)).await {
                Ok((subscription, ends)) => {
                    subscriptions.push(subscription);
                    joined.insert(channel, ends);
                }
                Err(error) => {
                    refused.insert(channel, error.code());
                }
            }
        }
        self.answer(reference, Ok(Answer::Resumed { joined: &joined, refused: &refused })).await?;
        for subscription in subscriptions {
            self.pump(subscription).await?;
        }
        Ok(())
    }

    async fn leave(&mut self, reference: Option<&Ref>, channel: &ChannelName) -> Result<(), End> {
        let left = self.detach(channel);
        self.answer(reference, if left { Ok(Answer::Done {}) } else { Err(Error::NotJoined) }).await
    }

    async fn history(
        &mut self,
        reference: Option<&Ref>,
        channel: &ChannelName,
        anchor: Anchor,
        limit: PageLimit,
    ) -> Result<(), End> {
        match self.all.chat.history(&self.caller, channel, anchor, limit).await {
            Ok(history) => self.answer(reference, Ok(Answer::History(&history))).await,
            Err(error) => self.refuse(reference, &error).await,
        }
    }

    async fn typing(&mut self, reference: Option<&Ref>, channel: &ChannelName) -> Result<(), End> {
        let told = self.all.chat.typing(&self.caller, self.id, channel).await;
        self.answer(reference, told.map(|()| Answer::Done {})).await
    }

    async fn answer(&mut self, reference: Option<&Ref>, answer: Result<Answer<'_>>) -> Result<(), End> {
        match answer {
            Ok(answer) => self.say(&Event::Ok { reference, answer }).await,
            Err(error) => self.refuse(reference, &error).await,
        }
    }

    pub(super) async fn refuse(&mut self, reference: Option<&Ref>, error: &Error) -> Result<(), End> {
        self.all.metrics.command_errors_total.with([error.code()]).increment(1);
        if let Some(cause) = error.cause() {
            tracing::warn!(session = %self.id, code = error.code(), cause = format!("{cause:#}"), "A command failed");
        }
        self.say(&Event::error(reference, error)).await
    }
}
