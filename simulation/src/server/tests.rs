use super::*;
use crate::dice::Purpose;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Work of exactly 10 ms.
fn config(workers: usize) -> ServerConfig {
    ServerConfig {
        workers,
        work: ms(10),
        work_varies: Duration::ZERO,
        queue: None,
        drops_expired: false,
    }
}

/// A server, its time, and what it answered when.
struct Bench {
    server: Server,
    now: Duration,
    next: Ticket,
}

impl Bench {
    fn new(config: ServerConfig) -> Self {
        Self {
            server: Server::new(config, Dice::new(1, Purpose::Server, 0)),
            now: Duration::ZERO,
            next: 0,
        }
    }

    fn arrive(&mut self, expires: Option<Duration>) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        self.server.arrive(ticket, expires, self.now);
        ticket
    }

    fn arrivals(&mut self, count: usize) {
        for _ in 0..count {
            self.arrive(None);
        }
    }

    fn befall(&mut self, condition: Condition) {
        self.server.befall(condition, self.now);
    }

    /// Goes on in time, in steps of a millisecond.
    fn until(&mut self, until: Duration) -> Vec<(Duration, Ticket, Answer)> {
        let mut all = Vec::new();
        while self.now < until {
            self.now += ms(1);
            let mut answered = Vec::new();
            self.server.advance(self.now, &mut answered);
            let at = self.now;
            all.extend(
                answered
                    .into_iter()
                    .map(|(ticket, answer)| (at, ticket, answer)),
            );
        }
        all
    }
}

fn ok(at: u64, ticket: Ticket) -> (Duration, Ticket, Answer) {
    (ms(at), ticket, Answer::Ok)
}

#[test]
fn two_workers_do_two_at_a_time_in_the_order_of_arrival() {
    let mut bench = Bench::new(config(2));
    bench.arrivals(5);
    assert_eq!((bench.server.busy(), bench.server.queued()), (2, 3));
    assert_eq!(
        bench.until(ms(40)),
        [ok(10, 0), ok(10, 1), ok(20, 2), ok(20, 3), ok(30, 4)]
    );
}

#[test]
fn times_are_exact_however_seldom_it_is_asked() {
    let mut server = Bench::new(config(1)).server;
    for ticket in 0..3 {
        server.arrive(ticket, None, ms(0));
    }
    let mut answered = Vec::new();
    server.advance(ms(29), &mut answered);
    assert_eq!(answered.len(), 2);
    assert_eq!(server.next_event(), Some(ms(30)), "the third began at 20");
}

#[test]
fn capacity_that_is_lost_takes_no_work_and_ends_what_it_has() {
    let mut bench = Bench::new(config(10));
    bench.arrivals(20);
    bench.befall(Condition {
        capacity: 0.2,
        ..Condition::HEALTHY
    });
    let answered = bench.until(ms(30));
    let at = |time| answered.iter().filter(|(at, ..)| *at == ms(time)).count();
    assert_eq!([at(10), at(20), at(30)], [10, 2, 2]);
    bench.befall(Condition::HEALTHY);
    assert_eq!(bench.server.busy(), 6, "all that was left, at once");
}

#[test]
fn a_queue_that_ends_refuses_what_is_too_much() {
    let mut bench = Bench::new(ServerConfig {
        queue: Some(2),
        ..config(1)
    });
    bench.arrivals(4);
    assert_eq!(
        bench.until(ms(30)),
        [
            (ms(1), 3, Answer::Exhausted),
            ok(10, 0),
            ok(20, 1),
            ok(30, 2)
        ]
    );
}

#[test]
fn what_has_expired_is_dropped_only_by_a_server_that_drops() {
    for drops_expired in [false, true] {
        let mut bench = Bench::new(ServerConfig {
            drops_expired,
            ..config(1)
        });
        bench.arrive(Some(ms(15)));
        bench.arrive(Some(ms(10)));
        bench.arrive(Some(ms(50)));
        let answered = bench.until(ms(40));
        match drops_expired {
            true => {
                assert!(answered.contains(&ok(20, 2)));
                assert!(
                    answered
                        .iter()
                        .any(|(_, ticket, answer)| (*ticket, *answer) == (1, Answer::Expired))
                );
            }
            false => assert_eq!(answered, [ok(10, 0), ok(20, 1), ok(30, 2)]),
        }
    }
}

#[test]
fn a_pause_holds_everything_and_goes_on_where_it_was() {
    let mut bench = Bench::new(config(1));
    bench.arrivals(2);
    bench.until(ms(4));
    bench.befall(Condition {
        paused: true,
        ..Condition::HEALTHY
    });
    bench.arrivals(1);
    assert_eq!(bench.until(ms(104)), []);
    bench.befall(Condition::HEALTHY);
    assert_eq!(bench.until(ms(140)), [ok(110, 0), ok(120, 1), ok(130, 2)]);
}

#[test]
fn a_hang_loses_what_there_was_and_what_comes() {
    let mut bench = Bench::new(config(1));
    bench.arrivals(2);
    bench.befall(Condition {
        hung: true,
        ..Condition::HEALTHY
    });
    bench.arrivals(1);
    assert_eq!(bench.until(ms(100)), []);
    bench.befall(Condition::HEALTHY);
    let after = bench.arrive(None);
    assert_eq!(bench.until(ms(200)), [ok(110, after)]);
}

#[test]
fn failures_come_soon_in_the_share_that_was_ordered_and_cost_no_work() {
    let mut bench = Bench::new(config(1));
    bench.befall(Condition {
        failing: 1.0,
        ..Condition::HEALTHY
    });
    bench.arrivals(3);
    assert_eq!(bench.server.busy(), 0);
    let answered = bench.until(ms(2));
    assert_eq!(answered.len(), 3);
    assert!(
        answered
            .iter()
            .all(|(.., answer)| *answer == Answer::Unavailable)
    );

    bench.befall(Condition {
        failing: 0.25,
        ..Condition::HEALTHY
    });
    bench.arrivals(10_000);
    let failed = bench.until(ms(4));
    assert!((2_400..2_600).contains(&failed.len()), "{}", failed.len());
}

#[test]
fn the_share_that_is_lost_is_never_answered_and_costs_no_work() {
    let mut bench = Bench::new(config(1000));
    bench.befall(Condition {
        lost: 0.25,
        ..Condition::HEALTHY
    });
    bench.arrivals(1000);
    let answered = bench.until(ms(1000)).len();
    assert!((700..800).contains(&answered), "{answered}");
    assert_eq!((bench.server.busy(), bench.server.queued()), (0, 0));
}

#[test]
fn what_is_slow_behind_it_takes_time_and_no_worker() {
    let mut bench = Bench::new(config(1));
    bench.befall(Condition {
        slow: Some((ms(100), ms(100))),
        ..Condition::HEALTHY
    });
    bench.arrivals(2);
    assert_eq!(bench.until(ms(150)), [ok(110, 0), ok(120, 1)]);
}

#[test]
fn what_befalls_it_can_be_told() {
    let condition = Condition {
        capacity: 0.2,
        failing: 0.5,
        ..Condition::HEALTHY
    };
    assert_eq!(
        condition.to_string(),
        "fails 50 % of requests and has 20 % of its capacity"
    );
    assert_eq!(Condition::HEALTHY.to_string(), "is well");
}

#[test]
fn nobody_is_there_to_connect_to() {
    let mut bench = Bench::new(config(1));
    bench.befall(Condition {
        unreachable: true,
        ..Condition::HEALTHY
    });
    bench.arrivals(1);
    assert_eq!(bench.until(ms(5)), [(ms(1), 0, Answer::Refused)]);
}

#[test]
fn work_takes_what_it_should_on_average() {
    let mut bench = Bench::new(ServerConfig {
        work_varies: ms(10),
        ..config(1)
    });
    bench.arrivals(1000);
    let answered = bench.until(ms(25_000));
    let (last, ..) = answered.last().unwrap();
    assert!((ms(19_000)..ms(21_000)).contains(last), "{last:?}");
}
