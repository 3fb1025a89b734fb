//! How a session gets signed in: with its upgrade, or by its first frame.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::socket::{End, Incoming, Socket};
use super::{Session, Sessions};
use crate::error::{Error, Result};
use crate::hub::{Presence, Wake};
use crate::model::{Caller, SessionId, TEXT_BYTES_MAX};
use crate::protocol::{self, Answer, CloseCode, Command, Event, FRAME_BYTES_MAX, LimitsNotice, Ref, encode};

/// A session that is signed in, and counted among its user's.
pub struct Ticket {
    pub(super) session: SessionId,
    pub(super) caller: Caller,
    pub(super) presence: Presence,
    pub(super) wake: Arc<Wake>,
}

/// Who has come with an upgrade.
pub enum Guest {
    /// Somebody who has signed in with it.
    Member(Ticket),
    /// Somebody who is to say so in the first frame.
    Stranger {
        /// Who they claim to be.
        name: Option<String>,
        /// Cancelled when they have to make room for others.
        displaced: CancellationToken,
    },
}

impl Sessions {
    /// Counts a session in.
    ///
    /// # Errors
    /// `too_many_sessions`; `unauthenticated` where the sign-in was revoked meanwhile.
    pub fn enter(&self, caller: Caller) -> Result<Ticket> {
        self.enter_with(caller, Arc::default())
    }

    fn enter_with(&self, caller: Caller, wake: Arc<Wake>) -> Result<Ticket> {
        let session = SessionId::new();
        let limit = self.options.per_user.max().unwrap_or(0);
        let presence = self
            .chat
            .hub()
            .enter(caller.user, caller.sign_in, session, &wake, limit)
            .inspect_err(|_| self.metrics.refused_total.with(["sessions"]).increment(1))?;
        // Registered first: a revocation from now on wakes the session.
        if self.chat.is_revoked(&caller) {
            return Err(Error::Unauthenticated);
        }
        Ok(Ticket { session, caller, presence, wake })
    }

    /// Waits for the first command, which has to be `auth`.
    pub(super) async fn sign_in(
        &self,
        socket: &mut Socket,
        wake: Arc<Wake>,
        name: Option<String>,
        displaced: CancellationToken,
    ) -> Result<Ticket, End> {
        let deadline = Instant::now() + self.options.sign_in;
        loop {
            let incoming = tokio::select! {
                incoming = timeout_at(deadline, socket.next()) => incoming,
                () = displaced.cancelled() => return Err(End::Close(CloseCode::Overloaded)),
                () = self.stop.cancelled() => return Err(End::Close(CloseCode::Restart)),
            };
            let text = match incoming {
                Err(_) => return Err(End::Close(CloseCode::NotSignedIn)),
                Ok(Incoming::End(end)) => return Err(end),
                Ok(Incoming::Alive) => continue,
                Ok(Incoming::Text(text)) => text,
            };
            let request = protocol::decode(&text);
            let reference = request.reference.as_ref();
            let token = match request.command {
                Ok(Command::Auth { token }) => token,
                Ok(_) => return Err(End::Close(CloseCode::ProtocolError)),
                Err(error) => {
                    self.refuse(socket, reference, &error).await?;
                    continue;
                }
            };
            let entered = self.chat.authenticate(&token).await.and_then(|caller| {
                if name.as_deref().is_some_and(|name| name != caller.name.as_str()) {
                    return Ok(Err(End::Close(CloseCode::OtherUser)));
                }
                self.enter_with(caller, wake.clone()).map(Ok)
            });
            match entered {
                Ok(Ok(ticket)) => {
                    socket.write(encode(&Event::Ok { reference, answer: Answer::Done {} })).await?;
                    return Ok(ticket);
                }
                Ok(Err(end)) => return Err(end),
                Err(error) => {
                    self.refuse(socket, reference, &error).await?;
                    return Err(End::Close(match error {
                        Error::TooManySessions => CloseCode::Overloaded,
                        Error::Unavailable(_) | Error::Internal(_) => CloseCode::Internal,
                        _ => CloseCode::NotSignedIn,
                    }));
                }
            }
        }
    }

    async fn refuse(&self, socket: &mut Socket, reference: Option<&Ref>, error: &Error) -> Result<(), End> {
        self.metrics.command_errors_total.with([error.code()]).increment(1);
        socket.write(encode(&Event::error(reference, error))).await?;
        socket.flush().await
    }
}

impl Session {
    /// Tells the client what it may rely on.
    pub(super) async fn welcome(&mut self) -> Result<(), End> {
        let options = self.all.options.clone();
        let text = encode(&Event::Welcome {
            session: self.id.to_string(),
            user: &self.caller.name,
            node: &options.node,
            server: env!("CARGO_PKG_VERSION"),
            expires_at: self.caller.expires_at,
            durability: options.durability,
            limits: LimitsNotice {
                frame: FRAME_BYTES_MAX,
                text: TEXT_BYTES_MAX,
                joins: options.joins.max().unwrap_or(0),
                dedupe_ms: u64::try_from(options.dedupe.as_millis()).unwrap_or(u64::MAX),
            },
            ping_ms: u64::try_from(options.ping.as_millis()).unwrap_or(u64::MAX),
        });
        self.write(text).await
    }

    /// Renews the token of a live session; the same user's only.
    pub(super) async fn renew(&mut self, reference: Option<&Ref>, token: &str) -> Result<(), End> {
        let entered = self.all.chat.authenticate(token).await.and_then(|caller| {
            if caller.user != self.caller.user {
                return Ok(None);
            }
            let hub = self.all.chat.hub();
            let presence = hub.enter(caller.user, caller.sign_in, self.id, &self.wake, 0)?;
            if self.all.chat.is_revoked(&caller) { Err(Error::Unauthenticated) } else { Ok(Some((caller, presence))) }
        });
        match entered {
            Ok(Some((caller, presence))) => {
                self.presence = presence;
                self.caller = caller;
                self.told_expiring = false;
                self.set_timer();
                self.say(&Event::Ok { reference, answer: Answer::Done {} }).await?;
                self.welcome().await
            }
            Ok(None) => Err(End::Close(CloseCode::OtherUser)),
            Err(error) => self.refuse(reference, &error).await,
        }
    }
}
