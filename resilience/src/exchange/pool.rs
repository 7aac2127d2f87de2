//! Exchanges that are over, for calls to come.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many stacks of idle exchanges there are. Threads are spread over them in
/// the order in which they first call, so some may share one.
const SHARDS: usize = 16;

/// Idle exchanges, to be started again.
///
/// A call needs a block of about 1 KiB: more than an allocator has at hand when
/// many are under way, and with it a clone of the channel. Both are as good for
/// the next call.
///
/// A thread goes to one stack only, so that what it takes is what it has last
/// used, and nobody waits for another: who finds the stack in use does without.
#[derive(Debug)]
pub(crate) struct Pool<X> {
    shards: [Shard<X>; SHARDS],
    /// How many a stack may hold.
    most: usize,
}

/// With cache lines to itself (two, as processors fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Shard<X>(Mutex<Vec<Pin<Box<X>>>>);

impl<X> Pool<X> {
    /// No stack holds more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            shards: [const { Shard(Mutex::new(Vec::new())) }; SHARDS],
            most,
        }
    }

    /// One that is idle, if there is one.
    #[inline]
    pub(super) fn take(&self) -> Option<Pin<Box<X>>> {
        self.shard().0.try_lock().ok()?.pop()
    }

    /// Keeps `idle`, if there is room.
    #[inline]
    pub(super) fn put(&self, idle: Pin<Box<X>>) {
        if let Ok(mut stack) = self.shard().0.try_lock()
            && stack.len() < self.most
        {
            stack.push(idle);
        }
    }

    /// The stack of this thread.
    #[inline]
    fn shard(&self) -> &Shard<X> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        &self.shards[THREAD.get() % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn the_last_that_was_put_is_taken_first() {
        let pool = Pool::new(8);
        assert_eq!(pool.take(), None);
        pool.put(Box::pin(1));
        pool.put(Box::pin(2));
        let taken = [pool.take(), pool.take(), pool.take()];
        assert_eq!(
            taken.map(|one| one.map(|one| *one)),
            [Some(2), Some(1), None]
        );
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let pool = Pool::new(2);
        for one in 0..5 {
            pool.put(Box::pin(one));
        }
        let kept = std::iter::from_fn(|| pool.take()).count();
        assert_eq!(kept, 2);
    }

    #[test]
    fn all_are_dropped_with_the_pool() {
        let pool = Pool::new(8);
        let held = Arc::new(());
        for _ in 0..3 {
            pool.put(Box::pin(Arc::clone(&held)));
        }
        drop(pool);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn what_one_thread_takes_no_other_has() {
        let pool = Pool::new(usize::MAX);
        let alive = AtomicUsize::new(0);
        struct Counted<'a>(&'a AtomicUsize, Mutex<()>);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        thread::scope(|scope| {
            for _ in 0..SHARDS + 2 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let one = pool.take().unwrap_or_else(|| {
                            alive.fetch_add(1, Ordering::Relaxed);
                            Box::pin(Counted(&alive, Mutex::new(())))
                        });
                        let alone = one.1.try_lock().expect("nobody else has it");
                        drop(alone);
                        pool.put(one);
                    }
                });
            }
        });
        // Whoever met another did without, and dropped it.
        assert!(alive.load(Ordering::Relaxed) <= SHARDS + 2);
        drop(pool);
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}
