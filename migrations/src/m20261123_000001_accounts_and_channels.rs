//! The first tables: who there is, who is signed in, which channels there are and who belongs to them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, binary_len, binary_len_null, boolean, pk_uuid, text, uuid,
};
use sea_orm_migration::sea_orm::DbBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // SQLite would otherwise keep the half of a migration that failed.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        for table in
            [installation(), users(backend), sign_ins(), channels(backend), members(), retired_channel_names(backend)]
        {
            manager.create_table(table).await?;
        }
        for index in [
            index("sign_ins_user_id", SignIns::Table, SignIns::UserId),
            index("sign_ins_expires_at", SignIns::Table, SignIns::ExpiresAt),
            index("sign_ins_revoked_at", SignIns::Table, SignIns::RevokedAt),
            index("members_user_id", Members::Table, Members::UserId),
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

/// A name orders by its bytes on both databases, so that pages are the same on both.
fn name<T: IntoIden>(column: T, backend: DbBackend) -> ColumnDef {
    let mut column = text(column);
    if backend == DbBackend::Postgres {
        column.extra(r#"COLLATE "C""#);
    }
    column
}

fn installation() -> TableCreateStatement {
    Table::create()
        .table(Installation::Table)
        .col(text(Installation::Key).primary_key())
        .col(text(Installation::Value))
        .to_owned()
}

fn users(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(Users::Table)
        .col(pk_uuid(Users::Id))
        .col(name(Users::Name, backend).unique_key())
        .col(text(Users::PasswordHash))
        .col(big_integer(Users::CreatedAt))
        .to_owned()
}

fn sign_ins() -> TableCreateStatement {
    Table::create()
        .table(SignIns::Table)
        .col(pk_uuid(SignIns::Id))
        .col(uuid(SignIns::UserId))
        .col(big_integer(SignIns::Generation))
        .col(binary_len(SignIns::CurrentHash, 32))
        .col(big_integer_null(SignIns::PreviousGeneration))
        .col(binary_len_null(SignIns::PreviousHash, 32))
        .col(boolean(SignIns::Confirmed))
        .col(big_integer(SignIns::CreatedAt))
        .col(big_integer(SignIns::ExpiresAt))
        .col(big_integer_null(SignIns::RevokedAt))
        .foreign_key(
            ForeignKey::create()
                .from(SignIns::Table, SignIns::UserId)
                .to(Users::Table, Users::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn channels(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(Channels::Table)
        .col(pk_uuid(Channels::Id))
        .col(name(Channels::Name, backend).unique_key())
        .col(text(Channels::Kind))
        .col(text(Channels::Topic))
        .col(big_integer(Channels::CreatedAt))
        .col(big_integer(Channels::EpochFloor))
        .to_owned()
}

fn members() -> TableCreateStatement {
    Table::create()
        .table(Members::Table)
        .col(uuid(Members::ChannelId))
        .col(uuid(Members::UserId))
        .col(text(Members::Role))
        .col(big_integer(Members::AddedAt))
        .primary_key(Index::create().col(Members::ChannelId).col(Members::UserId))
        .foreign_key(
            ForeignKey::create()
                .from(Members::Table, Members::ChannelId)
                .to(Channels::Table, Channels::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .foreign_key(
            ForeignKey::create()
                .from(Members::Table, Members::UserId)
                .to(Users::Table, Users::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// Names of deleted channels, with the highest epoch that their logs had.
fn retired_channel_names(backend: DbBackend) -> TableCreateStatement {
    Table::create()
        .table(RetiredChannelNames::Table)
        .col(name(RetiredChannelNames::Name, backend).primary_key())
        .col(big_integer(RetiredChannelNames::Epoch))
        .to_owned()
}

fn index<T: IntoIden, C: IntoIden>(name: &str, table: T, column: C) -> IndexCreateStatement {
    Index::create().name(name).table(table.into_iden()).col(column.into_iden()).to_owned()
}

#[derive(DeriveIden)]
enum Installation {
    Table,
    Key,
    Value,
}

#[derive(DeriveIden)]
enum Users {
    Table,
    Id,
    Name,
    PasswordHash,
    CreatedAt,
}

#[derive(DeriveIden)]
enum SignIns {
    Table,
    Id,
    UserId,
    Generation,
    CurrentHash,
    PreviousGeneration,
    PreviousHash,
    Confirmed,
    CreatedAt,
    ExpiresAt,
    RevokedAt,
}

#[derive(DeriveIden)]
enum Channels {
    Table,
    Id,
    Name,
    Kind,
    Topic,
    CreatedAt,
    EpochFloor,
}

#[derive(DeriveIden)]
enum Members {
    Table,
    ChannelId,
    UserId,
    Role,
    AddedAt,
}

#[derive(DeriveIden)]
enum RetiredChannelNames {
    Table,
    Name,
    Epoch,
}
