//! Who calls.

/// The party on whose behalf an interaction is performed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Anyone who reaches a service that runs with `auth = none`, which listens on loopback only.
    Open,
    /// Lumbar itself: imports, deliveries and the demonstration.
    System,
}
