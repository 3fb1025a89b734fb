//! What was changed in the database, as every node has to hear it.

use serde::{Deserialize, Serialize};

use super::{ChannelId, ChannelName, SignInId, UserId};

/// A change that is in the database. Hearing of it again, late, or in another order than they were made does no harm:
/// each either names for good what has ended, or says that something is to be read anew.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A user is no longer a member: this membership, and with it every earlier one, has ended. It says nothing about a
    /// later one, so it puts nobody out who was added again.
    Removed {
        /// Which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
        /// The number of the membership.
        membership: u64,
    },
    /// A user became a member, or has another role.
    Role {
        /// Which channel.
        channel: ChannelId,
        /// Who.
        user: UserId,
    },
    /// A channel's definition changed.
    Changed {
        /// Its id.
        channel: ChannelId,
        /// Its name.
        name: ChannelName,
    },
    /// A channel is gone, and its log goes with this notice. One made anew under the name has another id.
    Deleted {
        /// Its id.
        channel: ChannelId,
        /// Its name.
        name: ChannelName,
    },
    /// Sign-ins were revoked.
    Revoked {
        /// Whose.
        user: UserId,
        /// Which.
        sign_ins: Vec<SignInId>,
    },
}
