//! Writes all orders that have gathered in one commit.
//!
//! A commit waits for the disk, about as long for a hundred orders as for one.
//! So one task writes: it takes what has gathered while the last commit was
//! under way, and nobody waits for a timer. Alone, an order is written at once.
//!
//! An order whose caller has gone before its turn came is not written.

use std::fmt::Write as _;

use service_kit::database::{self, Lent};
use sqlx::{AnyPool, AssertSqlSafe, Row as _};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{COLUMNS, Creation, StoreError, Stored, Turn, failed, find, items_to_text};

/// Orders that may wait to be written: at 1 ms for a commit, well under a second.
const QUEUE_MAX: usize = 1024;
/// Orders in one commit. More would make it longer and not the whole faster.
const BATCH_MAX: usize = 128;

/// The way to the task that writes, which ends with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Job>);

/// An order to write.
#[derive(Debug)]
struct Job {
    new: Stored,
    /// Where its text is made: not in the one task that all wait for.
    items: String,
    answer: oneshot::Sender<Result<Creation, StoreError>>,
    /// Held until the order is written, whether its caller waits or not: so no
    /// two of one id are in the queue.
    turn: Turn,
}

impl Writer {
    pub(super) fn start(pool: AnyPool) -> Self {
        Self::committing(BATCH_MAX, pool)
    }

    /// With so many orders in one commit, at most.
    fn committing(batch_max: usize, pool: AnyPool) -> Self {
        let (sender, jobs) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write_all(pool, jobs, batch_max));
        Self(sender)
    }

    /// Completes when the task has ended, after which nothing can be written.
    pub(super) async fn ended(self) {
        self.0.closed().await;
    }

    pub(super) async fn write(&self, new: Stored, turn: Turn) -> Result<Creation, StoreError> {
        let (answer, answered) = oneshot::channel();
        let items = items_to_text(&new.order.items);
        let job = Job {
            new,
            items,
            answer,
            turn,
        };
        self.0.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Full,
            TrySendError::Closed(_) => StoreError::Failed,
        })?;
        // Without an answer, the task has ended: with its runtime, or by a panic.
        answered.await.unwrap_or(Err(StoreError::Failed))
    }
}

async fn write_all(pool: AnyPool, mut jobs: mpsc::Receiver<Job>, batch_max: usize) {
    let mut batch = Vec::with_capacity(batch_max);
    while jobs.recv_many(&mut batch, batch_max).await > 0 {
        batch.retain(|job| !job.answer.is_closed());
        if !batch.is_empty() {
            // Two processes that write the same ids in one order cannot wait for
            // each other.
            batch.sort_by(|a, b| a.new.order.order_id.cmp(&b.new.order.order_id));
            let written = insert(&pool, &batch).await;
            answer(&pool, batch.drain(..), written).await;
        }
    }
}

/// Writes the orders whose ids are free, in one statement, which is one commit.
/// Returns those ids.
async fn insert(pool: &AnyPool, batch: &[Job]) -> sqlx::Result<Vec<String>> {
    let mut query = sqlx::query(AssertSqlSafe(statement(batch.len())));
    for Job { new, items, .. } in batch {
        query = query
            .bind(&*new.order.order_id)
            .bind(&*new.order.user_id)
            .bind(&*new.user_name)
            .bind(&**items)
            .bind(new.order.total.normalize().to_string())
            .bind(new.created_at_ms);
    }
    let mut connection = Lent::from(pool).await?;
    let rows = database::answer(query.fetch_all(&mut *connection)).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The statement that writes so many orders.
fn statement(orders: usize) -> String {
    let columns = COLUMNS.split(',').count();
    let mut sql = format!("INSERT INTO orders ({COLUMNS}) VALUES ");
    for order in 0..orders {
        let first = order * columns + 1;
        sql.push_str(if order == 0 { "(" } else { ", (" });
        for at in first..first + columns {
            let comma = if at == first { "" } else { ", " };
            write!(sql, "{comma}${at}").expect("a string takes all that is written to it");
        }
        sql.push(')');
    }
    sql.push_str(" ON CONFLICT DO NOTHING RETURNING order_id");
    sql
}

/// Tells each what came of its order.
async fn answer(
    pool: &AnyPool,
    batch: impl Iterator<Item = Job>,
    written: sqlx::Result<Vec<String>>,
) {
    let written = written.map_err(failed);
    // Once it cannot be read either, nobody waits for that again.
    let mut readable = true;
    for Job {
        new, answer, turn, ..
    } in batch
    {
        let outcome = match &written {
            Err(error) => Err(*error),
            Ok(ids) if ids.contains(&new.order.order_id) => Ok(Creation::New(new)),
            Ok(_) if !readable => Err(StoreError::Failed),
            Ok(_) => match find(pool, &new.order.order_id).await {
                Ok(Some(earlier)) => Ok(Creation::Earlier(earlier)),
                Ok(None) => Err(StoreError::Failed),
                Err(error) => {
                    readable = false;
                    Err(failed(error))
                }
            },
        };
        // Nobody minds when the caller has gone.
        let _ = answer.send(outcome);
        drop(turn);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use service_kit::database::{self, DatabaseUrl};
    use tokio::time::sleep;

    use super::{
        super::{
            STEPS, Store, Turns,
            tests::{MANY, of, store},
        },
        *,
    };

    #[test]
    fn a_statement_has_an_argument_for_each_column_of_each_order() {
        assert_eq!(
            statement(2),
            "INSERT INTO orders (order_id, user_id, user_name, items, total, created_at_ms) VALUES \
             ($1, $2, $3, $4, $5, $6), ($7, $8, $9, $10, $11, $12) \
             ON CONFLICT DO NOTHING RETURNING order_id"
        );
    }

    async fn create(store: &Store, turns: &Turns, id: &str) -> Result<Creation, StoreError> {
        let turn = turns.take(id).await;
        store.create(of(id, "user-1", 1), turn).await
    }

    #[tokio::test]
    async fn many_at_once_are_all_written_and_each_is_told_of_its_own() {
        let (store, turns) = (store().await, Turns::default());
        let ids: Vec<String> = (0..500).map(|at| format!("order-{}", at % 400)).collect();

        let all = join_all(ids.iter().map(|id| create(&store, &turns, id))).await;

        let mut new = 0;
        for (id, creation) in ids.iter().zip(all) {
            let (Creation::New(order) | Creation::Earlier(order)) = creation.clone().unwrap();
            assert_eq!(&order.order.order_id, id);
            new += usize::from(matches!(creation, Ok(Creation::New(_))));
        }
        assert_eq!(new, 400);
        let listed = store.list("user-1", None, 1000, MANY).await;
        assert_eq!(listed.unwrap().len(), 400);
    }

    #[tokio::test]
    async fn an_order_whose_caller_has_gone_is_not_written_and_its_id_is_free() {
        let (store, turns) = (store().await, Turns::default());
        // The only connection is taken, so that the writer waits.
        let connection = store.pool.acquire().await.unwrap();
        let first = tokio::spawn({
            let (store, turns) = (store.clone(), turns.clone());
            async move { create(&store, &turns, "first").await }
        });
        tokio::task::yield_now().await;
        let gone = create(&store, &turns, "gone");
        tokio::select! {
            biased;
            _ = gone => panic!("nothing can be written"),
            () = sleep(Duration::from_millis(20)) => {}
        }
        drop(connection);

        assert!(matches!(first.await.unwrap(), Ok(Creation::New(_))));
        assert!(matches!(
            create(&store, &turns, "gone").await,
            Ok(Creation::New(_))
        ));
    }

    #[tokio::test]
    async fn a_writer_that_has_ended_is_no_full_queue_and_says_so() {
        let (sender, jobs) = mpsc::channel(1);
        let writer = Writer(sender);
        let ended = tokio::spawn(writer.clone().ended());
        drop(jobs);

        ended.await.unwrap();
        let turn = Turns::default().take("a").await;
        let written = writer.write(of("a", "user-1", 1), turn).await;
        assert_eq!(written, Err(StoreError::Failed));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (store, turns) = (store().await, Turns::default());
        let _connection = store.pool.acquire().await.unwrap();
        let waiting: Vec<_> = (0..QUEUE_MAX + BATCH_MAX)
            .map(|at| {
                let (store, turns) = (store.clone(), turns.clone());
                tokio::spawn(async move { create(&store, &turns, &at.to_string()).await })
            })
            .collect();
        // One batch at most is under way; the others fill the queue.
        while store.writer.0.capacity() > 0 {
            if waiting.iter().all(tokio::task::JoinHandle::is_finished) {
                break;
            }
            tokio::task::yield_now().await;
        }

        assert_eq!(
            create(&store, &turns, "one more").await,
            Err(StoreError::Full)
        );
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }

    /// What committing together is worth: figures, no verdict.
    /// `cargo test --release -p order-service --lib -- --ignored --nocapture`
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "measures, for some seconds"]
    async fn a_commit_for_many_orders_or_for_each() {
        const CALLERS: usize = 128;
        let span = Duration::from_secs(3);
        let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
        for (name, batch_max, on_disk) in [
            ("in memory", BATCH_MAX, false),
            ("on disk, together", BATCH_MAX, true),
            ("on disk, one by one", 1, true),
        ] {
            let place = tempfile::tempdir_in(target).unwrap();
            let url = match on_disk {
                true => DatabaseUrl::file(&place.path().join("orders.db")),
                false => DatabaseUrl::memory(),
            };
            let pool = database::open(&url, &STEPS).await.unwrap();
            let store = Store {
                writer: Writer::committing(batch_max, pool.clone()),
                pool,
            };
            let end = tokio::time::Instant::now() + span;
            let caller = |caller: usize| {
                let (store, turns) = (store.clone(), Turns::default());
                tokio::spawn(async move {
                    let mut stored = 0_u32;
                    while tokio::time::Instant::now() < end {
                        let id = format!("{caller}-{stored}");
                        create(&store, &turns, &id).await.unwrap();
                        stored += 1;
                    }
                    stored
                })
            };
            let all = join_all((0..CALLERS).map(caller)).await;
            let stored: u32 = all.into_iter().map(Result::unwrap).sum();
            let per_second = f64::from(stored) / span.as_secs_f64();
            println!("{name:20} {per_second:>8.0} orders/s");
        }
    }
}
