//! A real Postgres for the tests that need two nodes on one database.

pub(crate) struct Postgres;

impl Postgres {
    /// The one that all tests of this process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: std::sync::OnceLock<Postgres> = std::sync::OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of one's own.
    pub(crate) fn start() -> Self {
        Self
    }

    /// A new, empty database; its URL.
    pub(crate) fn create_database(&self) -> String {
        unimplemented!("a Postgres for the tests")
    }
}
