//! What the client costs, and what others cost on the same work.
//!
//! `./run` builds and drives it, and `README.md` says how to read what it says.
//!
//! | file | what |
//! | --- | --- |
//! | `work.rs` | the call that is measured, and the service in memory beneath it |
//! | `direct.rs` | the same without the client |
//! | `room.rs` | the runtime and the recorder around it |
//! | `rows.rs` | what is measured, and over what |
//! | `ours.rs` | the rows of `resilience`: all that is used of its API |
//! | `peers/` | the rows of the crates that it is compared with |
//! | `counts.rs` | instructions and allocations; `alloc.rs` counts the latter |
//! | `micro.rs` | times of the same rows |
//! | `contend/` | two threads, and two workers of a runtime |
//! | `loopback/` | real calls to a server in another process |
//! | `stats.rs` | medians, clocks, tables |

// A macro that stands for a constant in a type needs its braces.
#![allow(unused_braces)]

mod alloc;
#[cfg(feature = "peers")]
mod contend;
mod counts;
mod direct;
#[cfg(feature = "peers")]
mod loopback;
#[cfg(feature = "peers")]
mod micro;
mod ours;
#[cfg(feature = "peers")]
mod peers;
mod room;
mod rows;
#[cfg(feature = "peers")]
mod stats;
mod work;

use std::{env, process::ExitCode};
#[cfg(feature = "peers")]
use std::{io, time::Duration};

use rows::Table;
use work::Manner;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list"] => list(),
        ["count", id, manner] => return count(id, manner),
        #[cfg(feature = "peers")]
        [command] => return time(command, false),
        #[cfg(feature = "peers")]
        [command, "--quick"] => return time(command, true),
        _ => {
            eprintln!("this is driven by resilience/benches/run: see its --help");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// What has a clock in it.
#[cfg(feature = "peers")]
fn time(command: &str, quick: bool) -> ExitCode {
    let done = match command {
        "micro" => {
            let room = room::Room::new();
            let _entered = room.enter();
            micro::run(if quick { 31 } else { 201 }, &room);
            Ok(())
        }
        "contend" => {
            contend::run(if quick { 40 } else { 200 });
            Ok(())
        }
        "loopback" => loopback::run(Duration::from_secs(if quick { 15 } else { 75 })),
        // The other process of `loopback`.
        "serve" => loopback::serve(),
        _ => Err(io::Error::other(format!("there is no {command}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// All rows, for the script that counts: table, id, what it is over, manner,
/// title.
fn list() {
    for table in Table::ALL {
        for row in rows::all().iter().filter(|row| row.table == table) {
            for manner in row.manners {
                println!(
                    "{}\t{}\t{}\t{manner:?}\t{}",
                    table.title(),
                    row.id,
                    row.over.unwrap_or("-"),
                    row.title
                );
            }
        }
    }
}

fn count(id: &str, manner: &str) -> ExitCode {
    let row = rows::all().into_iter().find(|row| row.id == id);
    let Some((row, manner)) = row.and_then(|row| {
        let named = |known: &&Manner| format!("{known:?}") == manner;
        Some((row, *row.manners.iter().find(named)?))
    }) else {
        eprintln!("there is no row {id} {manner}");
        return ExitCode::from(2);
    };
    let room = room::Room::new();
    let _entered = room.enter();
    counts::run(row, manner);
    ExitCode::SUCCESS
}
