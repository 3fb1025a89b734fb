//! Reading what Redis answers without copying it first.

use std::str::FromStr;

use redis::{ErrorKind, RedisError, Value};

use crate::model::{Entry, Position};

/// The answer is not of the form that the command promises.
pub(super) fn unexpected(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "Redis answered something else than", what.to_owned()))
}

/// A text.
pub(super) fn text(value: &Value) -> Result<&str, RedisError> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| unexpected("a text")),
        Value::SimpleString(text) => Ok(text),
        Value::Nil => Ok(""),
        _ => Err(unexpected("a text")),
    }
}

/// A whole number, as such or as text.
pub(super) fn number<T: FromStr + TryFrom<i64>>(value: &Value) -> Result<T, RedisError> {
    match value {
        Value::Int(number) => T::try_from(*number).map_err(|_| unexpected("a number")),
        other => text(other)?.parse().map_err(|_| unexpected("a number")),
    }
}

/// A position; `None` for the empty text.
pub(super) fn position(value: &Value) -> Result<Option<Position>, RedisError> {
    match text(value)? {
        "" => Ok(None),
        id => id.parse().map(Some).map_err(|_| unexpected("a position")),
    }
}

/// A list.
pub(super) fn list(value: &Value) -> Result<&[Value], RedisError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(unexpected("a list")),
    }
}

/// An entry of a channel's log: `[id, [t, time, p, body]]`.
pub(super) fn entry(value: &Value) -> Result<Entry, RedisError> {
    let [id, fields] = list(value)? else { return Err(unexpected("an entry")) };
    let (mut at, mut body) = (0, "");
    for pair in list(fields)?.chunks_exact(2) {
        match text(&pair[0])? {
            "t" => at = number(&pair[1])?,
            "p" => body = text(&pair[1])?,
            _ => {}
        }
    }
    let position = position(id)?.ok_or_else(|| unexpected("an entry"))?;
    Ok(Entry { position, at, body: body.to_owned() })
}
