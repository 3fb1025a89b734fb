//! Accounts over HTTP.

use http::StatusCode;
use warp::reply::Response;

use super::Api;
use super::request::{Call, json, no_content};
use crate::chat::SignIn;
use crate::error::Result;
use crate::protocol::http::{Credentials, Logout, Me, NewAccount, NewPassword, Refresh, SignedIn, decode};

pub(super) async fn sign_up(api: Api, call: Call) -> Result<Response> {
    let address = call.client.0;
    let body = call.body()?;
    let NewAccount { name, password } = decode(&body)?;
    Ok(signed_in(StatusCode::CREATED, api.chat.sign_up(&name, password, address).await?))
}

pub(super) async fn log_in(api: Api, call: Call) -> Result<Response> {
    let address = call.client.0;
    let body = call.body()?;
    let Credentials { name, password } = decode(&body)?;
    let outcome = api.chat.log_in(&name, password, address).await;
    if let Err(error) = &outcome {
        tracing::info!(%address, code = error.code(), "A sign-in was refused");
    }
    Ok(signed_in(StatusCode::OK, outcome?))
}

pub(super) async fn refresh(api: Api, call: Call) -> Result<Response> {
    let body = call.body()?;
    let Refresh { refresh_token } = decode(&body)?;
    Ok(signed_in(StatusCode::OK, api.chat.refresh(&refresh_token).await?))
}

pub(super) async fn log_out(api: Api, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let body = call.body()?;
    let Logout { everywhere } = if body.is_empty() { Logout::default() } else { decode(&body)? };
    api.chat.log_out(&caller, everywhere.unwrap_or_default()).await?;
    Ok(no_content())
}

pub(super) async fn me(api: Api, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let user = api.chat.me(&caller).await?;
    Ok(json(StatusCode::OK, &Me { user: (&user).into() }))
}

pub(super) async fn change_password(api: Api, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let address = call.client.0;
    let body = call.body()?;
    let NewPassword { current, new } = decode(&body)?;
    api.chat.change_password(&caller, current, new, address).await?;
    Ok(no_content())
}

fn signed_in(status: StatusCode, sign_in: SignIn) -> Response {
    let SignIn { user, access_token, refresh_token, expires_at } = sign_in;
    json(status, &SignedIn { user: (&user).into(), access_token, refresh_token, expires_at })
}

#[cfg(test)]
pub(super) mod document {
    use super::super::openapi::*;
    use super::*;

    pub(in crate::http) fn operations() -> Vec<Operation> {
        let pair = "A pair of tokens.";
        vec![
            Operation::open(Method::POST, "/signup", "signUp", "Create an account, and sign it in")
                .takes::<NewAccount>()
                .gives::<SignedIn<'_>>(201, pair)
                .refuses([NAME_TAKEN, INTERNAL]),
            Operation::open(Method::POST, "/login", "logIn", "Sign in")
                .takes::<Credentials>()
                .gives::<SignedIn<'_>>(200, pair)
                .refuses([BAD_CREDENTIALS, INTERNAL]),
            Operation::open(Method::POST, "/refresh", "refresh", "Get the next pair of tokens")
                .detail(
                    "The old refresh token stays good until the new pair is first used, on HTTP or socket; its reuse after \
                     that revokes the whole sign-in.",
                )
                .takes::<Refresh>()
                .gives::<SignedIn<'_>>(200, pair)
                .refuses([BAD_REFRESH_TOKEN, INTERNAL]),
            Operation::signed_in(Method::POST, "/logout", "logOut", "End this sign-in, or all of the user's")
                .detail(
                    "Open sessions of what was revoked close with 4403 within a second, on every node. The body may be \
                     empty.",
                )
                .may_take::<Logout>()
                .ends(204, "Done."),
            Operation::signed_in(Method::GET, "/me", "me", "Who is asking").gives::<Me<'_>>(200, "The caller."),
            Operation::signed_in(
                Method::PUT,
                "/me/password",
                "changePassword",
                "Change the password, and end all other sign-ins",
            )
            .takes::<NewPassword>()
            .ends(204, "Done.")
            .refuses([WRONG_PASSWORD]),
        ]
    }
}
