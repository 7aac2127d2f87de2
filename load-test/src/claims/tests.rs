//! Made-up recordings that keep the promises, and ones that break a single one.

use super::*;
use crate::{
    made_up::Script,
    recording::{Ending, Outcome::*},
    scrape::BreakerState,
};

const TERMS: Terms = Terms {
    deadline: Duration::from_secs(1),
    budget_capacity: 20,
};

/// Judges, and gives the claim that is meant.
fn claim(recording: &Recording, when: &str, what: &str) -> Claim {
    let claims = judge(recording, &TERMS);
    let found = claims
        .iter()
        .find(|claim| claim.when == when && claim.what == what);
    found
        .unwrap_or_else(|| panic!("no {what:?} for {when:?} in {claims:#?}"))
        .clone()
}

fn verdict(recording: &Recording, when: &str, what: &str) -> Verdict {
    claim(recording, when, what).verdict
}

/// Every phase as it should be.
fn good() -> Script {
    let steady = Script::new().phase(Kind::Steady, 4, |_| (Created, 2));
    brownout(errors(steady, 6, 42), 160)
        .phase(Kind::Hang, 8, |index| match index {
            0..=160 => (Failed, 1_002),
            _ => (Refused, 1),
        })
        .attempts_per_call(0.2)
        .retries(20.0)
        .breaker(800, 8_000, BreakerState::Open)
        .phase(Kind::Recovery, 6, |index| match index {
            0..=200 => (Refused, 1),
            _ => (Created, 3),
        })
        .breaker(0, 1_000, BreakerState::Open)
        .breaker(1_000, 1_150, BreakerState::HalfOpen)
}

/// Four seconds of brown-out, in which this many of 400 orders are created.
fn brownout(script: Script, created_in_400: u64) -> Script {
    script.phase(Kind::Brownout, 4, move |index| {
        match index % 400 < created_in_400 {
            true => (Created, 700),
            false => (Refused, 100),
        }
    })
}

/// The two phases with errors, with this many failures in 2,400 and 1,200 calls.
fn errors(script: Script, at_10: u64, at_30: u64) -> Script {
    let failures = |wanted: u64| {
        move |index: u64| match index {
            _ if index < wanted => (Failed, 90),
            _ => (Created, 4),
        }
    };
    script
        .phase(Kind::Errors(10), 12, failures(at_10))
        .attempts_per_call(1.11)
        .phase(Kind::Errors(30), 6, failures(at_30))
        .attempts_per_call(1.38)
}

#[test]
fn a_run_as_promised_passes_every_claim() {
    let claims = judge(&good().recording(), &TERMS);
    assert_eq!(claims.len(), 13);
    for claim in claims {
        assert_eq!(claim.verdict, Verdict::Passed, "{claim:?}");
    }
}

#[test]
fn orders_must_be_created_when_nothing_is_wrong() {
    let run = |steady: u64, slow: u64| {
        let failing = |wanted: u64| {
            move |index: u64| match index {
                _ if index < wanted => (Failed, 1),
                _ => (Created, 2),
            }
        };
        Script::new()
            .phase(Kind::Steady, 3, failing(steady))
            .phase(Kind::Slow, 4, failing(slow))
            .recording()
    };
    let judged = |run: &Recording| claim(run, "steady and slow", "success");
    let kept = judged(&run(6, 1));
    assert_eq!(
        (kept.verdict, kept.measured.as_str(), kept.required.as_str()),
        (Verdict::Passed, "99.00 % in steady", "≥ 99 %")
    );
    assert_eq!(judged(&run(7, 0)).verdict, Verdict::Missed);
    let missed = judged(&run(0, 9));
    assert_eq!(
        (missed.verdict, missed.measured.as_str()),
        (Verdict::Missed, "98.87 % in slow")
    );

    // A target that is watched and not touched, and fails every order in a millisecond.
    let failing = Script::new()
        .phase(Kind::Steady, 30, |_| (Failed, 1))
        .recording();
    assert_eq!(judged(&failing).verdict, Verdict::Missed);

    let few = Script::new()
        .phase(Kind::Steady, 2, |_| (Failed, 1))
        .recording();
    let few = judged(&few);
    assert_eq!(
        (few.verdict, few.measured.as_str()),
        (Verdict::NotMeasured, "400 calls are too few to judge")
    );
}

#[test]
fn success_at_errors_is_judged_at_the_figure_itself() {
    // 9 of 2,400 are 99.625 %, 10 are 99.583 %.
    let enough = errors(Script::new(), 9, 50).recording();
    assert_eq!(verdict(&enough, "10 % errors", "success"), Verdict::Passed);
    assert_eq!(verdict(&enough, "30 % errors", "success"), Verdict::Passed);
    let too_few = errors(Script::new(), 10, 51).recording();
    let missed = claim(&too_few, "10 % errors", "success");
    assert_eq!(
        (missed.verdict, missed.measured.as_str()),
        (Verdict::Missed, "99.58 %")
    );
    assert_eq!(verdict(&too_few, "30 % errors", "success"), Verdict::Missed);
}

#[test]
fn too_many_attempts_are_a_miss() {
    let storm = Script::new()
        .phase(Kind::Errors(30), 12, |_| (Created, 4))
        .attempts_per_call(1.46)
        .recording();
    let missed = claim(&storm, "30 % errors", "attempts per call");
    assert_eq!(
        (missed.verdict, missed.measured.as_str()),
        (Verdict::Missed, "1.460")
    );
}

#[test]
fn a_fault_that_does_not_reach_the_order_service_proves_nothing() {
    let run = |failures: u64| {
        Script::new()
            .phase(Kind::Errors(10), 12, move |index| match index {
                _ if index < failures => (Failed, 2),
                _ => (Created, 2),
            })
            .recording()
    };
    for what in ["success", "attempts per call"] {
        let unharmed = claim(&run(0), "10 % errors", what);
        assert_eq!(
            (unharmed.verdict, unharmed.measured.as_str()),
            (Verdict::NotMeasured, "the fault did not reach it")
        );
    }
    // A client that retries nothing is another matter.
    assert_eq!(
        verdict(&run(240), "10 % errors", "success"),
        Verdict::Missed
    );
}

#[test]
fn figures_of_an_order_service_that_was_started_again_are_none() {
    let mut run = Script::new()
        .phase(Kind::Steady, 3, |_| (Created, 2))
        .phase(Kind::Down, 5, |_| (Failed, 2))
        .attempts_per_call(1.5)
        .phase(Kind::Recovery, 5, |_| (Created, 2))
        .recording();
    let judged = |run: &Recording, what| claim(run, "outage", what);
    assert_eq!(judged(&run, "retries in all").verdict, Verdict::Missed);
    run.restart_order_service(Duration::from_secs(7));
    for what in ["retries in all", "attempts per call"] {
        let claim = judged(&run, what);
        assert_eq!(
            (claim.verdict, claim.measured.as_str()),
            (Verdict::NotMeasured, "the order service was started again")
        );
    }
}

#[test]
fn a_share_of_few_calls_is_not_judged() {
    let short = Script::new()
        .phase(Kind::Errors(10), 2, |_| (Created, 4))
        .recording();
    let claim = claim(&short, "10 % errors", "success");
    assert_eq!(claim.verdict, Verdict::NotMeasured);
    assert_eq!(claim.measured, "400 calls are too few to judge");
}

#[test]
fn one_late_answer_in_any_phase_is_a_miss() {
    let run = |latency| {
        Script::new()
            .phase(Kind::Slow, 4, move |index| match index {
                77 => (Failed, latency),
                _ => (Created, 100),
            })
            .recording()
    };
    assert_eq!(
        verdict(&run(1_050), "every phase", "slowest answer"),
        Verdict::Passed
    );
    let missed = claim(&run(1_051), "every phase", "slowest answer");
    assert_eq!(missed.verdict, Verdict::Missed);
    assert_eq!(missed.measured, "1.05 s (1 late)");
}

#[test]
fn a_call_that_was_given_up_is_a_late_answer() {
    let run = Script::new()
        .phase(Kind::Hang, 4, |_| (NoAnswer, 3_000))
        .recording();
    assert_eq!(
        verdict(&run, "every phase", "slowest answer"),
        Verdict::Missed
    );
}

#[test]
fn an_answer_that_is_late_because_the_generator_was_is_not_judged() {
    let mut run = Script::new()
        .phase(Kind::Steady, 4, |_| (Created, 4))
        .recording();
    run.calls[9].late = Duration::from_millis(1_400);
    run.calls[9].latency = Duration::from_millis(1_404);
    let claim = claim(&run, "every phase", "slowest answer");
    assert_eq!(claim.verdict, Verdict::NotMeasured);
    assert!(claim.measured.contains("the generator was the bottleneck"));

    // One that would have been late anyway is still a miss.
    run.calls[10].latency = Duration::from_millis(1_404);
    assert_eq!(
        verdict(&run, "every phase", "slowest answer"),
        Verdict::Missed
    );
}

#[test]
fn a_breaker_that_opens_late_or_never_is_a_miss() {
    let hang = || Script::new().phase(Kind::Hang, 8, |_| (Failed, 1_000));
    let late = hang().breaker(1_200, 8_000, BreakerState::Open).recording();
    let missed = claim(&late, "hang", "breaker open after");
    assert_eq!(
        (missed.verdict, missed.measured.as_str()),
        (Verdict::Missed, "1.2 s")
    );

    let never = hang().recording();
    let missed = claim(&never, "hang", "breaker open after");
    assert_eq!(
        (missed.verdict, missed.measured.as_str()),
        (Verdict::Missed, "not within 8 s")
    );
}

#[test]
fn a_breaker_that_was_open_before_has_not_opened() {
    let run = Script::new()
        .phase(Kind::Steady, 3, |_| (Refused, 1))
        .breaker(0, 3_100, BreakerState::Open)
        .phase(Kind::Hang, 8, |_| (Refused, 1))
        .breaker(500, 8_000, BreakerState::Open)
        .recording();
    let claim = claim(&run, "hang", "breaker open after");
    assert_eq!(
        (claim.verdict, claim.measured.as_str()),
        (Verdict::NotMeasured, "it was open before the phase")
    );
}

#[test]
fn a_breaker_that_closes_only_to_open_again_has_not_closed() {
    let run = |reopened_until| {
        Script::new()
            .phase(Kind::Hang, 4, |_| (Refused, 1))
            .breaker(500, 4_000, BreakerState::Open)
            .phase(Kind::Recovery, 6, |_| (Created, 2))
            .breaker(0, 500, BreakerState::Open)
            .breaker(900, reopened_until, BreakerState::Open)
            .recording()
    };
    let passed = claim(&run(1_800), "end of hang", "breaker closed after");
    assert_eq!(
        (passed.verdict, passed.measured.as_str()),
        (Verdict::Passed, "1.8 s")
    );
    let missed = claim(&run(2_800), "end of hang", "breaker closed after");
    assert_eq!(
        (missed.verdict, missed.measured.as_str()),
        (Verdict::Missed, "2.8 s")
    );
    assert_eq!(
        verdict(&run(6_500), "end of hang", "breaker closed after"),
        Verdict::Missed
    );
}

#[test]
fn a_retry_storm_in_an_outage_is_a_miss() {
    let run = |retries| {
        Script::new()
            .phase(Kind::Steady, 2, |_| (Created, 2))
            .phase(Kind::Down, 8, |_| (Failed, 2))
            .retries(retries)
            .recording()
    };
    assert_eq!(
        verdict(&run(25.0), "outage", "retries in all"),
        Verdict::Passed
    );
    let missed = claim(&run(26.0), "outage", "retries in all");
    assert_eq!(missed.verdict, Verdict::Missed);
    assert_eq!(missed.measured, "26 in 8 s of down");
}

#[test]
fn recovery_is_judged_from_two_seconds_on_and_by_the_worst_fault() {
    let run = |failing_until| {
        let failing = move |index: u64| match index {
            _ if index < failing_until => (Refused, 1),
            _ => (Created, 2),
        };
        Script::new()
            .phase(Kind::Brownout, 4, |_| (Failed, 100))
            .phase(Kind::Recovery, 5, |_| (Created, 2))
            .phase(Kind::Down, 4, |_| (Refused, 1))
            .phase(Kind::Recovery, 5, failing)
            .recording()
    };
    let when = "from 2 s after a fault";
    // 200 calls a second: the first 400 do not count, nor do the last 20, and 5 of the 580
    // between them may fail.
    assert_eq!(verdict(&run(405), when, "success"), Verdict::Passed);
    let missed = claim(&run(406), when, "success");
    assert_eq!(missed.verdict, Verdict::Missed);
    assert_eq!(missed.measured, "98.96 % after down");
}

#[test]
fn a_brown_out_must_leave_nine_tenths_of_what_can_be_served() {
    let what = "created in time, of what can be served";
    let judged = |run: &Recording| claim(run, "brown-out", what);
    let run = |created| brownout(Script::new(), created).recording();
    let kept = judged(&run(144));
    assert_eq!(kept.required, "≥ 90 %");
    assert_eq!(kept.measured, "90.0 %, 72.0 of 80.0/s");
    assert_eq!(kept.verdict, Verdict::Passed);
    assert_eq!(judged(&run(143)).verdict, Verdict::Missed);

    // An order that is created too late is of no use.
    let late = Script::new()
        .phase(Kind::Brownout, 4, |_| (Created, 1_051))
        .recording();
    assert_eq!(judged(&late).verdict, Verdict::Missed);

    // Nor is one that had to wait for the end of the fault.
    let released = Script::new()
        .phase(Kind::Brownout, 4, |index| (Created, 4_001 - 5 * index))
        .recording();
    assert_eq!(judged(&released).measured, "0.0 %, 0.0 of 80.0/s");

    // A machine on which 50 ms take 60 can serve less.
    let mut busy = run(121);
    assert_eq!(judged(&busy).verdict, Verdict::Missed);
    for nap in &mut busy.naps {
        nap.took = Duration::from_millis(60);
    }
    assert_eq!(judged(&busy).measured, "90.7 %, 60.5 of 66.7/s");
    assert_eq!(judged(&busy).verdict, Verdict::Passed);

    // With fewer calls than it can serve, all of them are what can be served.
    let mut few = run(160);
    let mut index = 0;
    few.calls.retain(|_| {
        index += 1;
        index % 4 == 0
    });
    assert_eq!(judged(&few).measured, "40.0 %, 20.0 of 50.0/s");
}

#[test]
fn an_outage_in_which_the_breaker_stays_closed_costs_too_much() {
    let run = |attempts| {
        Script::new()
            .phase(Kind::Steady, 2, |_| (Created, 2))
            .phase(Kind::Down, 5, |_| (Refused, 1))
            .attempts_per_call(attempts)
            .recording()
    };
    let kept = claim(&run(0.14), "outage", "attempts per call");
    assert_eq!(
        (kept.verdict, kept.measured.as_str(), kept.required.as_str()),
        (
            Verdict::Passed,
            "0.14 in down",
            "≤ 0.50 (naive retries: 3.0)"
        )
    );
    let judged = |attempts| verdict(&run(attempts), "outage", "attempts per call");
    assert_eq!(judged(0.51), Verdict::Missed);
    // One attempt for each call: nothing is retried, and nothing refused.
    assert_eq!(judged(1.0), Verdict::Missed);
}

#[test]
fn an_outage_of_few_calls_is_over_before_the_breaker_can_be_sure() {
    let outage = |seconds| {
        Script::new()
            .phase(Kind::Steady, 2, |_| (Created, 2))
            .phase(Kind::Down, seconds, |_| (Failed, 1))
            .phase(Kind::Hang, 8, |_| (Refused, 1))
            .attempts_per_call(0.2)
            .recording()
    };
    let judged = |run: &Recording| claim(run, "outage", "attempts per call");
    assert_eq!(judged(&outage(1)).measured, "0.20 in hang");
    assert_eq!(judged(&outage(2)).verdict, Verdict::Missed);

    let mut few = outage(2);
    few.spans.truncate(2);
    few.calls.truncate(400 + 299);
    let few = judged(&few);
    assert_eq!(few.verdict, Verdict::NotMeasured);
    assert_eq!(few.measured, "no outage of 300 calls and 2 s");
}

#[test]
fn the_comparison_holds_when_tonic_alone_misses_what_is_promised() {
    let mut plain = Script::new()
        .phase(Kind::Errors(10), 12, |index| match index % 10 {
            0 => (Failed, 2),
            _ => (Created, 2),
        })
        .phase(Kind::Errors(30), 12, |_| (Created, 2))
        .phase(Kind::Hang, 8, |_| (NoAnswer, 3_000))
        .recording();
    plain.samples = Err("tonic alone counts nothing".to_owned());
    let contrast: Vec<_> = contrast(&judge(&plain, &TERMS))
        .into_iter()
        .map(|claim| (claim.name(), claim.required, claim.measured, claim.verdict))
        .collect();
    let row = |name: &str, required: &str, measured: &str, verdict| {
        (
            name.to_owned(),
            required.to_owned(),
            measured.to_owned(),
            verdict,
        )
    };
    assert_eq!(
        contrast,
        [
            row(
                "tonic alone, 10 % errors: success",
                "not ≥ 99.6 %",
                "90.00 %",
                Verdict::Passed
            ),
            // Nothing failed here: then the comparison shows nothing, and says so.
            row(
                "tonic alone, 30 % errors: success",
                "not ≥ 95.8 %",
                "100.00 %",
                Verdict::Missed
            ),
            row(
                "tonic alone, hang: slowest answer",
                "not ≤ 1.05 s",
                "3 s (1600 late)",
                Verdict::Passed
            ),
        ]
    );
}

#[test]
fn without_the_services_own_figures_the_claims_that_need_them_are_not_measured() {
    let mut run = good().recording();
    run.samples = Err("no --metrics given".to_owned());
    let claims = judge(&run, &TERMS);
    let not_measured: Vec<_> = claims
        .iter()
        .filter(|claim| claim.verdict == Verdict::NotMeasured)
        .map(|claim| (claim.when.as_str(), claim.measured.as_str()))
        .collect();
    assert_eq!(
        not_measured,
        [
            ("10 % errors", "no --metrics given"),
            ("30 % errors", "no --metrics given"),
            ("hang", "no --metrics given"),
            ("end of hang", "no --metrics given"),
            ("outage", "no --metrics given"),
            ("outage", "no --metrics given"),
        ]
    );
    assert!(claims.iter().all(|claim| claim.verdict != Verdict::Missed));
}

#[test]
fn what_was_not_reached_is_not_measured() {
    let mut run = good().recording();
    run.ending = Ending::Interrupted;
    run.spans.truncate(2);
    run.spans[1].complete = false;
    run.calls.truncate(800 + 1_000);
    let claims = judge(&run, &TERMS);
    assert_eq!(claims.len(), 13, "the plan decides what is listed");
    let reached: Vec<_> = claims
        .iter()
        .filter(|claim| claim.verdict != Verdict::NotMeasured)
        .map(|claim| (claim.when.as_str(), claim.what))
        .collect();
    assert_eq!(
        reached,
        [
            ("steady and slow", "success"),
            ("10 % errors", "success"),
            ("10 % errors", "attempts per call"),
            ("every phase", "slowest answer"),
        ]
    );
    assert_eq!(claims[3].measured, "not reached: interrupted");
    let hang = claims.iter().find(|claim| claim.when == "hang");
    assert_eq!(hang.unwrap().verdict, Verdict::NotMeasured);
}

#[test]
fn a_run_without_faults_claims_only_what_it_can_show() {
    let run = Script::new()
        .phase(Kind::Steady, 8, |_| (Created, 2))
        .recording();
    let claims = judge(&run, &TERMS);
    let names: Vec<_> = claims.iter().map(Claim::name).collect();
    assert_eq!(
        names,
        ["steady and slow: success", "every phase: slowest answer"]
    );
}
