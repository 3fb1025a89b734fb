//! Access tokens: issued for a user without their password, and looked into.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use serde_json::json;

use super::users::{cause, unknown};
use super::{Answer, password, shown};
use crate::auth::{RefreshSecret, Tokens};
use crate::clock;
use crate::config::{self, Settings};
use crate::model::{SignInId, UserName};
use crate::store::{NewSignIn, Store};

const EXAMPLES: &str = "\
Examples:
  burble token issue ann                                    prints the token alone
  burble token issue ann | burble token inspect --json";

/// What can be done with tokens.
#[derive(Subcommand)]
pub enum Command {
    /// Sign a user in without their password, and print the access token. It ends as others do, by itself or by being
    /// revoked, and cannot be refreshed.
    #[command(after_help = EXAMPLES)]
    Issue {
        /// Whose.
        name: UserName,
    },
    /// Show what an access token says, and whether it is good.
    #[command(after_help = EXAMPLES)]
    Inspect {
        /// The file with the token; standard input without it.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
}

pub(super) async fn run(settings: &Settings, store: &Store, command: Command) -> anyhow::Result<Answer> {
    ensure!(
        settings.auth.secret.is_some() || settings.pubsub.is_embedded(),
        "AUTH_SECRET is not set, so that no node would know the token"
    );
    let (auth, secret) = (&settings.auth, config::auth_secret(settings)?);
    let previous = auth.secret_previous.as_ref().map(|previous| previous.expose().as_bytes());
    let tokens = Tokens::new(secret.expose().as_bytes(), previous, Duration::from_secs(auth.access_seconds));
    match command {
        Command::Issue { name } => issue(&tokens, auth.access_seconds, store, &name).await,
        Command::Inspect { token_file } => {
            inspect(&tokens, store, password::secret(token_file.as_deref())?.trim()).await
        }
    }
}

async fn issue(tokens: &Tokens, access_seconds: u64, store: &Store, name: &UserName) -> anyhow::Result<Answer> {
    let found = store.users().to_sign_in(name).await.map_err(cause)?;
    let (user, hash) = found.with_context(|| format!("{}, or they are disabled", unknown(name)))?;
    let now = clock::now_ms();
    // Nobody has its refresh token: it ends with the access token.
    let expires_at = now.saturating_add_unsigned(access_seconds.saturating_mul(1_000));
    let sign_in =
        NewSignIn { id: SignInId::new(), token_hash: RefreshSecret::new()?.hash(), created_at: now, expires_at };
    if !store.sign_ins().create(user.id, &hash, &sign_in).await.map_err(cause)? {
        bail!("the account has changed meanwhile; try again");
    }
    let (token, expires_at) = tokens.issue(&user, sign_in.id, 0, now)?;
    let json = json!({ "user": name, "access_token": token, "sign_in": sign_in.id, "expires_at": expires_at });
    Ok(Answer::new(token, json))
}

async fn inspect(tokens: &Tokens, store: &Store, token: &str) -> anyhow::Result<Answer> {
    let now = clock::now_ms();
    let claims = tokens.verify(token, now).context("the token is not good")?;
    let active = store.sign_ins().is_active(claims.sign_in, now).await.map_err(cause)?;
    let verdict = if active { "is good" } else { "is not good: its sign-in has ended" };
    let text = format!("A token of {} that {verdict}, until {}.", claims.name, shown(claims.expires_at));
    let json = json!({ "user": claims.name, "sign_in": claims.sign_in, "generation": claims.generation,
                       "expires_at": claims.expires_at, "active": active });
    Ok(Answer::new(text, json))
}
