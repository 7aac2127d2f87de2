//! How long the calls take whose instructions are counted.

use std::{collections::HashMap, time::Duration};

use crate::{
    room::Room,
    rows::{self, Call, Row, Table},
    stats::{self, Samples, thread_cpu},
    work::Manner,
};

/// How long one row is run for, in one round.
const SLICE: Duration = Duration::from_micros(1500);

/// A row as it is run, and what it took in each round.
struct Case {
    row: Row,
    manner: Manner,
    call: Call,
    calls: u32,
    nanos: Vec<f64>,
}

/// Runs all rows, in rounds, and prints a table.
///
/// In each round each row has its turn, so that what disturbs the machine for
/// a while disturbs all of them alike; each round begins with another row. A
/// row and the one that it is over are compared within each round.
pub(crate) fn run(rounds: usize, room: &Room) {
    let mut cases = cases();
    for round in 0..rounds {
        for n in 0..cases.len() {
            let first = round * 7;
            let at = (first + n) % cases.len();
            let case = &mut cases[at];
            let nanos = time(case.calls, &mut case.call);
            case.nanos.push(nanos);
        }
        room.tidy();
    }

    println!("Nanoseconds of CPU time, medians of {rounds} rounds ± half of the middle half.\n");
    for table in Table::ALL {
        println!("## {}\n", table.title());
        stats::head(&["", "answered at once", "pending once"]);
        print(table, &cases);
        println!();
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for row in rows::all() {
        for &manner in row.manners {
            let mut call = (row.make)(manner);
            time(1000, &mut call);
            let each = time(1000, &mut call).max(1.0);
            cases.push(Case {
                row,
                manner,
                call,
                calls: (SLICE.as_nanos() as f64 / each) as u32 + 1,
                nanos: Vec::new(),
            });
        }
    }
    cases
}

/// Nanoseconds per call, on the CPU.
fn time(calls: u32, call: &mut Call) -> f64 {
    let before = thread_cpu();
    for _ in 0..calls {
        call();
    }
    (thread_cpu() - before).as_nanos() as f64 / f64::from(calls)
}

fn print(table: Table, cases: &[Case]) {
    let by_name: HashMap<_, _> = cases
        .iter()
        .map(|case| ((case.row.id, format!("{:?}", case.manner)), case))
        .collect();
    let cell = |row: &Row, manner: Manner| {
        let name = |id| (id, format!("{manner:?}"));
        let Some(case) = by_name.get(&name(row.id)) else {
            return String::new();
        };
        let base = row.over.and_then(|over| by_name.get(&name(over)));
        let samples: Samples = match base {
            Some(base) => case
                .nanos
                .iter()
                .zip(&base.nanos)
                .map(|(a, b)| a - b)
                .collect(),
            None => case.nanos.iter().copied().collect(),
        };
        format!("{:.0} ± {:.0}", samples.median(), samples.spread())
    };
    let rows = rows::all();
    for row in rows.iter().filter(|row| row.table == table) {
        let name = match row.over {
            Some(over) => format!("{} (over *{over}*)", row.title),
            None => format!("*{}: {}*", row.id, row.title),
        };
        let cells = [Manner::AtOnce, Manner::PendingOnce].map(|manner| cell(row, manner));
        stats::line([name].into_iter().chain(cells));
    }
}
