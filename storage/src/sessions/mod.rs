//! Sessions: who signed in, until when.

use engine::time::UnixMillis;
use uuid::Uuid;

/// A live session, as the gateway sees it. The cookie's secret is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Public id (UUID v4): what records and administrators name it by.
    pub id: Uuid,
    /// The account that signed in.
    pub account: Uuid,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it ends whatever happens.
    pub absolute_end: UnixMillis,
}
