//! What every node has to hear of is written down with the change itself; memberships are numbered, so that the end of
//! one is never taken for the end of the next; and a name is free once the log of the channel that had it is gone.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, pk_uuid, text, uuid_null};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // SQLite would otherwise keep the half of a migration that failed.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let outbox = Table::create().table(Outbox::Table).col(pk_uuid(Outbox::Id)).col(text(Outbox::Change)).to_owned();
        manager.create_table(outbox).await?;
        manager.alter_table(add(Channels::Table, big_integer(Channels::Memberships).default(0))).await?;
        manager.alter_table(add(Members::Table, big_integer(Members::Membership).default(0))).await?;
        manager.alter_table(add(RetiredChannelNames::Table, &mut uuid_null(RetiredChannelNames::Deleting))).await
    }
}

/// SQLite adds one column a statement.
fn add<T: IntoIden>(table: T, column: &mut ColumnDef) -> TableAlterStatement {
    Table::alter().table(table.into_iden()).add_column(column.take()).to_owned()
}

#[derive(DeriveIden)]
enum Outbox {
    Table,
    Id,
    Change,
}

#[derive(DeriveIden)]
enum Channels {
    Table,
    Memberships,
}

#[derive(DeriveIden)]
enum Members {
    Table,
    Membership,
}

#[derive(DeriveIden)]
enum RetiredChannelNames {
    Table,
    Deleting,
}
