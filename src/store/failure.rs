//! What an error of the database means to whoever asked: try again, or a fault of ours.

use std::time::Duration;

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::{DbErr, RuntimeErr, SqlErr, sqlx};

use crate::error::Error;

/// SQLite's primary result codes for a database that cannot work at present: BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL,
/// CANTOPEN. <https://sqlite.org/rescode.html>
const SQLITE_UNAVAILABLE: [u32; 7] = [5, 6, 7, 8, 10, 13, 14];
/// The same of Postgres, by the beginning of its SQLSTATE: connection exceptions, serialisation failures and deadlocks, no
/// resources, lock not available, operator intervention and time-outs, system errors; a server that has become a replica.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
const POSTGRES_UNAVAILABLE: [&str; 7] = ["08", "40", "53", "55P03", "57", "58", "25006"];

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if is_unavailable(&error) { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

/// No answer in the time there was.
pub(super) fn too_slow(limit: Duration) -> Error {
    Error::Unavailable(anyhow::anyhow!("the database did not answer within {limit:?}"))
}

/// Whether a row of that key is there already.
pub(super) fn is_taken(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

fn is_unavailable(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => match &**error {
            sqlx::Error::Database(error) => is_passing(&**error),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            _ => false,
        },
        _ => false,
    }
}

fn is_passing(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        return POSTGRES_UNAVAILABLE.iter().any(|class| code.starts_with(class));
    }
    // The lowest byte of SQLite's extended code is the primary one.
    code.parse::<u32>().is_ok_and(|code| SQLITE_UNAVAILABLE.contains(&(code & 0xff)))
}
