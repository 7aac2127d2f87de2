//! Walks the causes of an error.

use std::{error::Error, iter};

/// Deeper chains are tied in a knot.
const DEPTH_MAX: usize = 16;

/// `error`, and what caused it, and so on.
pub(crate) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // `*error`: a reference to an error is an error too, and lives less long.
    iter::successors(Some(error), |error| (*error).source()).take(DEPTH_MAX)
}

/// The first `E` among the causes of `error`.
pub(crate) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}
