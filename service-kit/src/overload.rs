//! How a service says that it has too much to do.

use tonic::{Status, metadata::MetadataValue};

/// When a caller may come back. Longer than a burst, and shorter than a caller's
/// patience: with the default deadline of a second there is time for a retry.
const COME_BACK_MS: &str = "200";

/// RESOURCE_EXHAUSTED, with the time after which to come back
/// (`grpc-retry-pushback-ms`, gRFC A6): a client of ours retries then, and not
/// before.
pub fn overloaded(message: impl Into<String>) -> Status {
    let mut status = Status::resource_exhausted(message);
    status.metadata_mut().insert(
        "grpc-retry-pushback-ms",
        MetadataValue::from_static(COME_BACK_MS),
    );
    status
}
