//! One row, for callgrind and for the counting allocator.

use std::hint::black_box;

use crate::{
    alloc::Allocations,
    room::{self, CALLS_PER_UPKEEP},
    rows::{Call, Row},
    work::Manner,
};

/// The two lengths of a run. Their difference is what counts, so that what
/// happens once is not in it; and it is a multiple of the blocks that samples
/// are kept in.
const LENGTHS: [u32; 2] = [CALLS_PER_UPKEEP, 2 * CALLS_PER_UPKEEP];

/// Runs `row` in both lengths, and prints how many calls lie between them, and
/// how many allocations, and of how many bytes, they made.
///
/// callgrind is told to write a profile each time that [`measured`] returns.
pub(crate) fn run(row: Row, manner: Manner) {
    let mut call = (row.make)(manner);
    warm(2 * CALLS_PER_UPKEEP, &mut call);
    let [short, long] = LENGTHS.map(|calls| {
        room::upkeep();
        let before = Allocations::now();
        measured(calls, &mut call);
        Allocations::now().since(before)
    });
    let added = long.since(short);
    println!(
        "{}\t{}\t{}",
        LENGTHS[1] - LENGTHS[0],
        added.count,
        added.bytes
    );
}

/// The function whose instructions are counted; `run` tells callgrind its name.
#[inline(never)]
fn measured(calls: u32, call: &mut Call) {
    for _ in 0..calls {
        black_box(&mut *call)();
    }
}

/// The same, not counted.
#[inline(never)]
fn warm(calls: u32, call: &mut Call) {
    for _ in 0..calls {
        black_box(&mut *call)();
    }
}
