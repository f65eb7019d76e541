//! Keeps this crate's traits from being implemented elsewhere, so that they can get methods in any version.

/// A supertrait of the traits that only this crate implements. It is public for this crate's own tests.
pub trait Sealed {}
