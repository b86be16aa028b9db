//! A look at a database that changes nothing in it, also while servers use it.
//!
//! Migrates nothing, and asks in transactions that can't write.

use async_trait::async_trait;
use callboard_actors::ports::{Audit, AuditScope, Finding, StoreError};

use super::open::{self, OpenError, Target};
use super::readers::Readers;
use super::{Options, audit};

/// A database, to be looked at.
pub struct PostgresInspector {
    readers: Readers,
}

impl std::fmt::Debug for PostgresInspector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresInspector").finish_non_exhaustive()
    }
}

impl PostgresInspector {
    /// Connects to a database, which has to be of this program's version.
    ///
    /// # Errors
    /// See [`OpenError`], with [`OpenError::Older`] among them.
    pub async fn open(options: &Options) -> Result<Self, OpenError> {
        let target = Target::of(options)?;
        open::verify(options, &target).await?;
        let readers = Readers::start(options, &target)?;
        Ok(Self { readers })
    }
}

#[async_trait]
impl Audit for PostgresInspector {
    async fn audit(&self, scope: &AuditScope) -> Result<Vec<Finding>, StoreError> {
        audit::run(&self.readers, scope).await
    }
}
