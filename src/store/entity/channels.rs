//! A channel's definition.

use sea_orm::entity::prelude::*;

use crate::error::Result;
use crate::model::{self, Channel, ChannelId, LastEpoch};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "channels")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    #[sea_orm(unique)]
    pub name: String,
    pub kind: Kind,
    pub topic: String,
    pub created_at: i64,
    pub epoch_floor: i64,
    pub memberships: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "snake_case")]
pub enum Kind {
    Public,
    Private,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(has_many = "super::members::Entity")]
    Members,
}

impl Related<super::members::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Members.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for Channel {
    type Error = crate::error::Error;
    fn try_from(row: Model) -> Result<Self> {
        Ok(Self {
            id: ChannelId(row.id),
            name: crate::store::stored(row.name.parse())?,
            kind: row.kind.into(),
            topic: crate::store::stored(row.topic.try_into())?,
            created_at: row.created_at,
            epoch_floor: row.epoch_floor.unsigned_abs(),
            last_epoch: LastEpoch::default(),
        })
    }
}

impl From<Kind> for model::ChannelKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Public => Self::Public,
            Kind::Private => Self::Private,
        }
    }
}

impl From<model::ChannelKind> for Kind {
    fn from(kind: model::ChannelKind) -> Self {
        match kind {
            model::ChannelKind::Public => Self::Public,
            model::ChannelKind::Private => Self::Private,
        }
    }
}
