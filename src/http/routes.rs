//! Every public route on one screen.

use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, path};

use super::request::{Call, answer, call, recover};
use super::{Api, accounts, address, channels, contracts, upgrade};
use crate::error::Result;

/// A route: a path, a method, a handler.
macro_rules! route {
    ($api:expr, $method:ident, $path:expr, $handler:path $(, $part:ident)*) => {{
        let api: Api = $api.clone();
        $path
            .and(warp::$method())
            .and(call(&api))
            .then(move |$($part: String,)* call: Call| {
                let api = api.clone();
                async move {
                    let result: Result<Response> = $handler(api, $($part,)* call).await;
                    answer(result)
                }
            })
            .boxed()
    }};
}

/// The public listener's routes.
pub fn routes(api: Api) -> BoxedFilter<(Response,)> {
    // Each is tried in turn, with all that it holds: the one that is asked for most comes first.
    let chat = route!(api, get, path!("ws"), upgrade::upgrade).or(accounts(&api)).unify();
    let chat = chat.or(channels(&api)).unify().or(messages(&api)).unify();
    #[cfg(feature = "conformance")]
    let chat = chat.or(route!(api, get, path!("echo"), upgrade::echo)).unify();
    chat.or(contracts(&api)).unify().recover(recover).unify().boxed()
}

fn accounts(api: &Api) -> BoxedFilter<(Response,)> {
    route!(api, post, path!("signup"), accounts::sign_up)
        .or(route!(api, post, path!("login"), accounts::log_in))
        .unify()
        .or(route!(api, post, path!("refresh"), accounts::refresh))
        .unify()
        .or(route!(api, post, path!("logout"), accounts::log_out))
        .unify()
        .or(route!(api, get, path!("me"), accounts::me))
        .unify()
        .or(route!(api, put, path!("me" / "password"), accounts::change_password))
        .unify()
        .or(route!(api, get, path!("address"), address::seen))
        .unify()
        .boxed()
}

fn channels(api: &Api) -> BoxedFilter<(Response,)> {
    route!(api, get, path!("channels"), channels::list)
        .or(route!(api, post, path!("channels"), channels::create))
        .unify()
        .or(route!(api, get, path!("channels" / String), channels::get, name))
        .unify()
        .or(route!(api, patch, path!("channels" / String), channels::change, name))
        .unify()
        .or(route!(api, delete, path!("channels" / String), channels::delete, name))
        .unify()
        .or(route!(api, get, path!("channels" / String / "members"), channels::members, name))
        .unify()
        .or(route!(api, put, path!("channels" / String / "members" / String), channels::put_member, name, user))
        .unify()
        .or(route!(api, delete, path!("channels" / String / "members" / String), channels::remove_member, name, user))
        .unify()
        .boxed()
}

fn messages(api: &Api) -> BoxedFilter<(Response,)> {
    route!(api, get, path!("channels" / String / "messages"), channels::history, name)
        .or(route!(api, post, path!("channels" / String / "messages"), channels::send, name))
        .unify()
        .boxed()
}

fn contracts(api: &Api) -> BoxedFilter<(Response,)> {
    route!(api, get, path!("openapi.json"), contracts::openapi)
        .or(route!(api, get, path!("asyncapi.json"), contracts::asyncapi))
        .unify()
        .boxed()
}
