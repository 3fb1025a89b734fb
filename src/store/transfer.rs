//! The rows of an SQLite file into an empty Postgres, for an installation that outgrows its one node.

use anyhow::{Context, ensure};
use migrations::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, EntityTrait, IntoActiveModel, Iterable, PaginatorTrait, PrimaryKeyToColumn,
    QueryOrder, TransactionTrait,
};

use super::entity::{channels, installation, members, outbox, retired_channel_names, sign_ins, users};

/// Rows of one statement. Postgres takes 65,535 values; the widest table has ten columns.
const ROWS: u64 = 1_000;

/// Copies all rows, in one transaction. The id of the installation goes along, so that its Redis still belongs to it.
///
/// # Errors
/// Where the tables of the file are not those of this version, or there are rows in Postgres already.
pub(super) async fn to_postgres(file: &DatabaseConnection, postgres: &DatabaseConnection) -> anyhow::Result<()> {
    let pending = Migrator::get_pending_migrations_read_only(file).await.context("its tables are no Burble's")?;
    ensure!(
        pending.is_empty(),
        "it is of an earlier version: restore it into a file, `burble migrate`, and back it up"
    );
    let postgres = postgres.begin().await?;
    let known = installation::Entity::find().count(&postgres).await?;
    ensure!(known == 0, "a Burble uses this database already: restore goes into an empty place");
    // Those that others refer to go first.
    copy::<installation::Entity>(file, &postgres).await?;
    copy::<users::Entity>(file, &postgres).await?;
    copy::<sign_ins::Entity>(file, &postgres).await?;
    copy::<channels::Entity>(file, &postgres).await?;
    copy::<members::Entity>(file, &postgres).await?;
    copy::<retired_channel_names::Entity>(file, &postgres).await?;
    copy::<outbox::Entity>(file, &postgres).await?;
    Ok(postgres.commit().await?)
}

async fn copy<E>(from: &DatabaseConnection, to: &impl ConnectionTrait) -> anyhow::Result<()>
where
    E: EntityTrait<Model: IntoActiveModel<E::ActiveModel> + Sync>,
{
    let by_key = E::PrimaryKey::iter().fold(E::find(), |rows, key| rows.order_by_asc(key.into_column()));
    let mut pages = by_key.paginate(from, ROWS);
    while let Some(rows) = pages.fetch_and_next().await? {
        E::insert_many(rows.into_iter().map(IntoActiveModel::into_active_model)).exec_without_returning(to).await?;
    }
    Ok(())
}
