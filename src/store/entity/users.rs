//! An account.

use sea_orm::entity::prelude::*;

use crate::error::Result;
use crate::model::{User, UserId};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    #[sea_orm(unique)]
    pub name: String,
    pub password_hash: String,
    pub created_at: i64,
    /// Since when the account is good for nothing, where the operator disabled it.
    pub disabled_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for User {
    type Error = crate::error::Error;
    fn try_from(row: Model) -> Result<Self> {
        Ok(Self { id: UserId(row.id), name: crate::store::stored(row.name.parse())?, created_at: row.created_at })
    }
}
