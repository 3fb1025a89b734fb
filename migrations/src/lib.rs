//! The tables of Burble, and how they came to be. Nothing here reads or writes what is in them.

use sea_orm_migration::prelude::*;

pub use sea_orm_migration::MigratorTrait;

mod m20261123_000001_accounts_and_channels;
mod m20261124_000002_outbox;
mod m20261124_000003_disabled_users;

/// Brings a database to the tables that this version needs.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_accounts_and_channels::Migration),
            Box::new(m20261124_000002_outbox::Migration),
            Box::new(m20261124_000003_disabled_users::Migration),
        ]
    }
}
