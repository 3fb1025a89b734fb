//! An account may be disabled by the operator: since when is noted with it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer_null;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // SQLite would otherwise keep the half of a migration that failed.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut disabled_at = big_integer_null(Users::DisabledAt);
        manager.alter_table(Table::alter().table(Users::Table).add_column(disabled_at.take()).to_owned()).await
    }
}

#[derive(DeriveIden)]
enum Users {
    Table,
    DisabledAt,
}
