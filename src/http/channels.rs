//! Channels, members and messages over HTTP.

use http::StatusCode;
use warp::reply::Response;

use super::Api;
use super::request::{Call, json, no_content};
use crate::chat::ListedChannel;
use crate::error::{Error, Result};
use crate::model::ChannelName;
use crate::protocol::http::{
    ChannelChange, ChannelView, Channels, MemberChange, Members, NewChannel, OneChannel, OneMember, decode, text,
};
use crate::protocol::new_message;

pub(super) async fn list(api: Api, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let after = call.query.get("after").map(|after| after.parse()).transpose()?;
    let (page, more) = api.chat.channels(&caller, after.as_ref(), call.limit()?).await?;
    let next = page.last().filter(|_| more).map(|(channel, ..)| &channel.name);
    Ok(json(StatusCode::OK, &Channels { channels: page.iter().map(view).collect(), next }))
}

pub(super) async fn create(api: Api, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let body = call.body()?;
    let NewChannel { name, kind, topic } = decode(&body)?;
    Ok(one(StatusCode::CREATED, &api.chat.create_channel(&caller, &name, kind, topic).await?))
}

pub(super) async fn get(api: Api, name: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    Ok(one(StatusCode::OK, &api.chat.channel(&caller, &named(&name)?).await?))
}

pub(super) async fn change(api: Api, name: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let body = call.body()?;
    let ChannelChange { topic } = decode(&body)?;
    Ok(one(StatusCode::OK, &api.chat.set_topic(&caller, &named(&name)?, topic).await?))
}

pub(super) async fn delete(api: Api, name: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    api.chat.delete_channel(&caller, &named(&name)?).await?;
    Ok(no_content())
}

pub(super) async fn members(api: Api, name: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let after = call.query.get("after").map(|after| after.parse()).transpose()?;
    let (members, more) = api.chat.members(&caller, &named(&name)?, after.as_ref(), call.limit()?).await?;
    let next = members.last().filter(|_| more).map(|member| member.name.clone());
    Ok(json(StatusCode::OK, &Members { members, next }))
}

pub(super) async fn put_member(api: Api, name: String, user: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let body = call.body()?;
    let MemberChange { role } = decode(&body)?;
    let member = api.chat.put_member(&caller, &named(&name)?, &user, role).await?;
    Ok(json(StatusCode::OK, &OneMember { member }))
}

pub(super) async fn remove_member(api: Api, name: String, user: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    api.chat.remove_member(&caller, &named(&name)?, &user).await?;
    Ok(no_content())
}

pub(super) async fn history(api: Api, name: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let history = api.chat.history(&caller, &named(&name)?, call.anchor()?, call.limit()?).await?;
    Ok(json(StatusCode::OK, &history))
}

pub(super) async fn send(api: Api, name: String, call: Call) -> Result<Response> {
    let caller = call.caller(&api).await?;
    let body = call.body()?;
    let message = new_message(text(&body)?)?;
    let sent = api.chat.send(&caller, &named(&name)?, &message).await?.outcome().await?;
    Ok(json(if sent.dup { StatusCode::OK } else { StatusCode::CREATED }, &sent))
}

/// A name in a path: what cannot be one names no channel.
fn named(name: &str) -> Result<ChannelName> {
    name.parse().map_err(|_| Error::ChannelNotFound)
}

fn view((channel, role, ends): &ListedChannel) -> ChannelView<'_> {
    ChannelView::new(channel, *role, *ends)
}

fn one(status: StatusCode, channel: &ListedChannel) -> Response {
    json(status, &OneChannel { channel: view(channel) })
}
