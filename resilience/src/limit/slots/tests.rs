use std::{
    future::poll_fn,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Wake, Waker},
    thread,
    time::Duration,
};

use proptest::{prelude::*, sample::Index};
use tokio::{runtime, time::timeout};

use super::*;

const BOUNDS: Bounds = Bounds {
    concurrency: 2,
    queue: 3,
};

fn counts(in_flight: u64, waiting: u64) -> Counts {
    Counts(in_flight * Counts::IN_FLIGHT + waiting * Counts::WAITING)
}

fn look(place: &mut Place) -> Poll<()> {
    look_with(place, Waker::noop())
}

fn look_with(place: &mut Place, waker: &Waker) -> Poll<()> {
    place.poll(&mut TaskContext::from_waker(waker))
}

fn slot(slots: &Slots) {
    assert!(matches!(slots.acquire(), Answer::Slot));
}

fn place(slots: &Slots) -> Place {
    match slots.acquire() {
        Answer::Place(place) => place,
        other => panic!("{other:?}"),
    }
}

fn both(slots: &Slots) -> (usize, usize) {
    let waiters = slots.lock().waiters.len();
    assert_eq!(slots.queued(), waiters, "the word says what the queue is");
    (slots.in_flight(), slots.queued())
}

#[test]
fn a_word_has_two_counts() {
    let most = counts(1_000_000, 1_000_000);
    assert_eq!((most.in_flight(), most.waiting()), (1_000_000, 1_000_000));
    assert_eq!(
        most.released(),
        None,
        "who waits for it is to have the slot"
    );
    let bounds = Bounds {
        concurrency: 1_000_000,
        queue: 1_000_001,
    };
    assert_eq!(most.asked(bounds), Some(counts(1_000_000, 1_000_001)));
}

#[test]
fn a_slot_is_free_when_not_all_are_taken_and_nobody_waits() {
    assert_eq!(counts(1, 0).taken(BOUNDS), Some(counts(2, 0)));
    assert_eq!(counts(2, 0).taken(BOUNDS), None);
    // This does not happen; were it so, it would not be for a new one to take.
    assert_eq!(counts(1, 1).taken(BOUNDS), None);
}

#[test]
fn who_finds_no_slot_joins_the_queue_or_is_refused() {
    assert_eq!(counts(1, 0).asked(BOUNDS), Some(counts(2, 0)));
    assert_eq!(counts(2, 0).asked(BOUNDS), Some(counts(2, 1)));
    assert_eq!(counts(2, 2).asked(BOUNDS), Some(counts(2, 3)));
    assert_eq!(counts(2, 3).asked(BOUNDS), None);
    let no_queue = Bounds { queue: 0, ..BOUNDS };
    assert_eq!(counts(2, 0).asked(no_queue), None);
}

#[test]
fn a_slot_goes_to_the_first_who_waits() {
    let slots = Slots::new(1, 2);
    slot(&slots);
    let (mut first, mut second) = (place(&slots), place(&slots));
    assert!(matches!(slots.acquire(), Answer::Full));
    assert_eq!(look(&mut second), Poll::Pending);
    assert_eq!(look(&mut first), Poll::Pending);

    slots.release();

    assert_eq!(look(&mut second), Poll::Pending);
    assert_eq!(look(&mut first), Poll::Ready(()));
    assert_eq!(both(&slots), (1, 1));
    slots.release();
    assert_eq!(look(&mut second), Poll::Ready(()));
    assert_eq!(both(&slots), (1, 0));
    slots.release();
    assert_eq!(both(&slots), (0, 0));
}

#[test]
fn nobody_overtakes_one_who_has_not_looked_yet() {
    let slots = Slots::new(1, 1);
    slot(&slots);
    let mut first = place(&slots);
    slots.release();
    let second = place(&slots);
    assert_eq!(look(&mut first), Poll::Ready(()));
    assert_eq!(both(&slots), (1, 1));
    slots.leave(second);
    slots.release();
    assert_eq!(both(&slots), (0, 0));
}

#[test]
fn a_slot_that_was_handed_to_one_who_leaves_goes_to_the_next() {
    let slots = Slots::new(1, 3);
    slot(&slots);
    let (first, second, mut third) = (place(&slots), place(&slots), place(&slots));
    slots.leave(second);
    slots.release();
    // It has not been told, and has the slot.
    slots.leave(first);
    assert_eq!(look(&mut third), Poll::Ready(()));
    assert_eq!(both(&slots), (1, 0));
    // It has been told, and comes too late.
    slots.leave(third);
    assert_eq!(both(&slots), (0, 0));
}

/// Each has decided to ask for the lock, and has it when all is different.
#[test]
fn what_happens_before_the_lock_is_there_is_seen_under_it() {
    let slots = Slots::new(1, 1);
    // A slot has become free.
    assert!(matches!(slots.acquire_in_turn(counts(1, 0)), Answer::Slot));
    assert_eq!(both(&slots), (1, 0));
    // All who waited have left.
    slots.hand_over();
    assert_eq!(both(&slots), (0, 0));
    // Others have filled the queue.
    slot(&slots);
    let place = place(&slots);
    assert!(matches!(slots.acquire_in_turn(counts(1, 0)), Answer::Full));
    slots.leave(place);
    assert_eq!(both(&slots), (1, 0));
}

/// How often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn only_who_has_a_slot_is_woken() {
    let slots = Slots::new(1, 2);
    slot(&slots);
    let woken = [(); 2].map(|()| Arc::new(Woken::default()));
    let times = || woken.each_ref().map(|woken| woken.0.load(SeqCst));
    let [leaver, waiter] = woken.each_ref().map(|woken| {
        let mut place = place(&slots);
        assert_eq!(look_with(&mut place, &woken.clone().into()), Poll::Pending);
        place
    });

    slots.leave(leaver);
    assert_eq!(times(), [0, 0]);
    slots.release();
    assert_eq!(times(), [0, 1]);
    slots.leave(waiter);
    assert_eq!(times(), [0, 1]);
}

/// A task that has a place.
struct Task(Arc<Slots>, Option<Place>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.leave(self.1.take().unwrap());
    }
}

/// Were a waker dropped under the lock, this would never end.
#[test]
fn the_last_waker_of_a_task_that_has_a_place_may_go_with_another_place() {
    let slots = Arc::new(Slots::new(1, 2));
    slot(&slots);
    for hand_over in [false, true] {
        let task = Task(Arc::clone(&slots), Some(place(&slots)));
        let mut other = place(&slots);
        let pending = look_with(&mut other, &Arc::new(task).into());
        assert_eq!(pending, Poll::Pending);
        if hand_over {
            // To the task, and so, as that ends, to the other.
            slots.release();
        }
        slots.leave(other);
        assert_eq!(both(&slots), (usize::from(!hand_over), 0));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Acquire,
    Release,
    /// One of those who wait looks.
    Look(Index),
    /// One of those who wait leaves, whether it has a slot by now or not.
    Leave(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Acquire),
        3 => Just(Step::Release),
        2 => any::<Index>().prop_map(Step::Look),
        2 => any::<Index>().prop_map(Step::Leave),
    ]
}

/// What the slots should be: without the word, and without places that are
/// counted twice.
#[derive(Default)]
struct Model {
    /// Who have a slot, and know it.
    holders: usize,
    /// Who have a place, in the order in which they came, and whether it has
    /// become a slot.
    places: Vec<(Place, bool)>,
}

impl Model {
    fn waiting(&self) -> usize {
        self.places.iter().filter(|(_, handed)| !handed).count()
    }

    fn in_flight(&self) -> usize {
        self.holders + self.places.len() - self.waiting()
    }

    /// A slot is given back, by who is counted no more.
    fn hand_over(&mut self) {
        if let Some((_, handed)) = self.places.iter_mut().find(|(_, handed)| !handed) {
            *handed = true;
        }
    }

    fn step(&mut self, slots: &Slots, concurrency: usize, queue: usize, step: &Step) {
        match step {
            Step::Acquire => {
                let (in_flight, waiting) = (self.in_flight(), self.waiting());
                match slots.acquire() {
                    Answer::Slot => {
                        assert!(in_flight < concurrency && waiting == 0);
                        self.holders += 1;
                    }
                    Answer::Place(place) => {
                        assert!(in_flight == concurrency && waiting < queue);
                        self.places.push((place, false));
                    }
                    Answer::Full => assert!(in_flight == concurrency && waiting == queue),
                }
            }
            Step::Release if self.holders > 0 => {
                slots.release();
                self.holders -= 1;
                self.hand_over();
            }
            Step::Look(index) if !self.places.is_empty() => {
                let at = index.index(self.places.len());
                let (place, handed) = &mut self.places[at];
                assert_eq!(look(place).is_ready(), *handed);
                if *handed {
                    self.places.remove(at);
                    self.holders += 1;
                }
            }
            Step::Leave(index) if !self.places.is_empty() => {
                let (place, handed) = self.places.remove(index.index(self.places.len()));
                slots.leave(place);
                if handed {
                    self.hand_over();
                }
            }
            Step::Release | Step::Look(_) | Step::Leave(_) => {}
        }
        assert_eq!(both(slots), (self.in_flight(), self.waiting()));
    }
}

proptest! {
    #[test]
    fn slots_are_as_a_list_of_who_came_in_which_order(
        concurrency in 1_usize..4,
        queue in 0_usize..5,
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let slots = Slots::new(concurrency, queue);
        let mut model = Model::default();
        for step in &steps {
            model.step(&slots, concurrency, queue, step);
        }
        while let Some((mut place, handed)) = model.places.pop() {
            prop_assert_eq!(look(&mut place).is_ready(), handed);
            slots.leave(place);
            if handed {
                model.hand_over();
            }
        }
        for _ in 0..model.holders {
            slots.release();
        }
        prop_assert_eq!(both(&slots), (0, 0));
    }
}

/// The sequences are not the same twice: what is checked must hold in all.
#[test]
fn many_threads_lose_no_slot_and_are_given_none_twice() {
    const THREADS: u64 = 6;
    const ROUNDS: usize = 10_000;
    const CONCURRENCY: usize = 2;

    let slots = Slots::new(CONCURRENCY, 3);
    let (holders, handed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let hold = |dice: &mut fastrand::Rng| {
        assert!(holders.fetch_add(1, SeqCst) < CONCURRENCY, "too many");
        if dice.bool() {
            thread::yield_now();
        }
        holders.fetch_sub(1, SeqCst);
        slots.release();
    };
    let start = Barrier::new(THREADS as usize);
    let run = |seed| {
        let mut dice = fastrand::Rng::with_seed(seed);
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        start.wait();
        for _ in 0..ROUNDS {
            let mut place = match slots.acquire() {
                Answer::Slot => {
                    hold(&mut dice);
                    continue;
                }
                Answer::Place(place) => place,
                Answer::Full => {
                    thread::yield_now();
                    continue;
                }
            };
            match dice.u8(..8) {
                // It gives up: at once, after a while, or after a look.
                0 => slots.leave(place),
                1 => {
                    thread::yield_now();
                    slots.leave(place);
                }
                2 => {
                    let _either = look(&mut place);
                    slots.leave(place);
                }
                _ => {
                    let wait = async {
                        // A slot that is lost would be waited for until then.
                        let wait = poll_fn(|cx| place.poll(cx));
                        timeout(Duration::from_secs(60), wait).await
                    };
                    runtime.block_on(wait).expect("a slot, in the end");
                    handed.fetch_add(1, SeqCst);
                    hold(&mut dice);
                }
            }
        }
    };
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let run = &run;
            scope.spawn(move || run(seed));
        }
    });

    assert_eq!(both(&slots), (0, 0));
    assert!(handed.into_inner() > 0, "nobody ever waited");
    for _ in 0..CONCURRENCY {
        slot(&slots);
    }
}
