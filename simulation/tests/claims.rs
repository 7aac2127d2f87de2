//! The claims, over many seeds.
//!
//! ```text
//! cargo test --release -p simulation --test claims                          # 20 seeds
//! SIMULATION_SEEDS=1000 cargo test --release -p simulation --test claims    # half an hour
//! ```
//!
//! Only with `--release`: without, twenty seeds take an hour.
#![cfg(not(debug_assertions))]

use std::{env, sync::OnceLock};

use simulation::{
    claims::{Claim, judge, lines, plans},
    matrix::Matrix,
};

fn seeds() -> u64 {
    match env::var("SIMULATION_SEEDS") {
        Ok(text) => text.parse().expect("SIMULATION_SEEDS is a number"),
        Err(_) => 20,
    }
}

/// All runs are made once, for all tests.
fn claims() -> &'static [Claim] {
    static CLAIMS: OnceLock<Vec<Claim>> = OnceLock::new();
    CLAIMS.get_or_init(|| {
        let all: Vec<u64> = (1..=seeds()).collect();
        let mut matrix = Matrix::default();
        for plan in plans(&all) {
            matrix.extend(plan.run(|| ()));
        }
        let claims = judge(&matrix);
        println!("over {} seeds:\n{}", seeds(), lines(&claims));
        claims
    })
}

fn held(ids: &[&str]) {
    for id in ids {
        let claim = claims().iter().find(|claim| claim.id == *id);
        let claim = claim.unwrap_or_else(|| panic!("{id} was judged"));
        assert!(claim.held, "{claim:?}");
    }
}

#[test]
fn no_run_fails_to_recover() {
    held(&["recovers"]);
}

#[test]
fn in_a_full_outage_the_budget_alone_adds_next_to_nothing() {
    held(&["minute_500", "minute_20"]);
}

#[test]
fn in_a_full_outage_the_breaker_leaves_the_server_alone() {
    held(&["minute_500_breaker", "minute_20_breaker"]);
}

#[test]
fn partial_failure_is_hidden_from_callers_for_little_load() {
    held(&["errors_10", "errors_10_load", "errors_25"]);
}

#[test]
fn the_breaker_does_no_harm_in_partial_failure() {
    held(&["harmless"]);
}

#[test]
fn overload_is_over_soon_after_the_capacity_is_back() {
    held(&["capacity_75", "capacity_90"]);
}

#[test]
fn every_call_is_answered_by_its_deadline() {
    held(&["in_time"]);
}

#[test]
fn every_claim_has_a_test() {
    assert_eq!(claims().len(), 12);
}
