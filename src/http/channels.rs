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

#[cfg(test)]
pub(super) mod document {
    use super::super::openapi::*;
    use super::*;
    use crate::model::NewMessage;
    use crate::protocol::{History, Sent};

    pub(in crate::http) fn operations() -> Vec<Operation> {
        let path = "/channels/{name}";
        vec![
            Operation::signed_in(
                Method::GET,
                "/channels",
                "listChannels",
                "The public channels and the caller's private ones, by name",
            )
            .with([LIMIT, AFTER_CHANNEL])
            .gives::<Channels<'_>>(200, "A page.")
            .refuses([BAD_QUERY]),
            Operation::signed_in(
                Method::POST,
                "/channels",
                "createChannel",
                "Create a channel; the caller is its owner",
            )
            .takes::<NewChannel>()
            .gives::<OneChannel<'_>>(201, "The channel.")
            .refuses([NAME_TAKEN]),
            Operation::signed_in(Method::GET, path, "getChannel", "One channel")
                .gives::<OneChannel<'_>>(200, "The channel.")
                .refuses([CHANNEL_NOT_FOUND]),
            Operation::signed_in(Method::PATCH, path, "changeChannel", "Change what a channel is about")
                .detail("For owners and moderators.")
                .takes::<ChannelChange>()
                .gives::<OneChannel<'_>>(200, "The channel.")
                .refuses([FORBIDDEN, CHANNEL_NOT_FOUND, UNDECIDED]),
            Operation::signed_in(Method::DELETE, path, "deleteChannel", "Delete a channel with its history")
                .detail("For owners.")
                .ends(204, "Done.")
                .refuses([FORBIDDEN, CHANNEL_NOT_FOUND, UNDECIDED]),
        ]
    }

    pub(in crate::http) fn member_operations() -> Vec<Operation> {
        let path = "/channels/{name}/members/{user}";
        vec![
            Operation::signed_in(Method::GET, "/channels/{name}/members", "listMembers", "The members, by name")
                .detail("Of a public channel, for any signed-in user.")
                .with([LIMIT, AFTER_USER])
                .gives::<Members>(200, "A page.")
                .refuses([BAD_QUERY, CHANNEL_NOT_FOUND]),
            Operation::signed_in(Method::PUT, path, "putMember", "Add a member, or change their role")
                .detail(
                    "An owner grants any role. A moderator grants no role but member, and touches no other moderator.",
                )
                .takes::<MemberChange>()
                .gives::<OneMember>(200, "The member.")
                .refuses([FORBIDDEN, MEMBER_NOT_FOUND, LAST_OWNER, UNDECIDED]),
            Operation::signed_in(Method::DELETE, path, "removeMember", "Remove a member, or oneself")
                .detail("An owner removes anyone, a moderator members, anyone themself.")
                .ends(204, "Done.")
                .refuses([FORBIDDEN, MEMBER_NOT_FOUND, LAST_OWNER, UNDECIDED]),
        ]
    }

    pub(in crate::http) fn message_operations() -> Vec<Operation> {
        let path = "/channels/{name}/messages";
        vec![
            Operation::signed_in(Method::GET, path, "history", "A page of history, ascending")
                .detail(
                    "One of `before`, `after` and `around` at most; without any, the latest page. Any well-formed position \
                     will do, whether or not an entry has it.",
                )
                .with([BEFORE, AFTER, AROUND, LIMIT])
                .gives::<History>(200, "A page.")
                .refuses([BAD_QUERY, CHANNEL_NOT_FOUND]),
            Operation::signed_in(Method::POST, path, "sendMessage", "Say something")
                .takes::<NewMessage>()
                .gives::<Sent>(200, "Written before, under the same `cid`; bears `dup`.")
                .gives::<Sent>(201, "Written.")
                .refuses([CHANNEL_NOT_FOUND, CID_CONFLICT, UNDECIDED]),
        ]
    }
}
