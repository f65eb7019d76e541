//! The gate that every request passes before it is sent.

use tokio::time::Instant;

use crate::sealed::Sealed;

/// Limits when requests start. Only this crate implements it.
pub trait Gate: Sealed + Send + Sync {
    /// Waits until a request may be handed to its open connection.
    fn pass(&self) -> impl Future<Output = ()> + Send;

    /// Called when the request was handed to its connection.
    fn started(&self, at: Instant);
}

/// A gate that never waits: requests start as soon as their connection is open.
#[derive(Debug)]
pub struct NoGate;

impl Sealed for NoGate {}

impl Gate for NoGate {
    async fn pass(&self) {}

    fn started(&self, _: Instant) {}
}
