//! The orders that were created, in the database.
//!
//! | file | what for |
//! | --- | --- |
//! | `turns.rs` | one request at a time for each order id, in this process |
//! | `writer.rs` | writes all orders that have gathered in one commit |
//!
//! Between processes the database's unique key decides who was first.

mod turns;
mod writer;

use proto::order::OrderItem;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use service_kit::database::{Lent, Step, answer};
use sqlx::{AnyPool, Row as _, any::AnyRow};
use tracing::error;

pub(crate) use turns::{Turn, Turns};

use crate::limits::Order;
use writer::Writer;

/// The schema, from its beginning.
pub(crate) const STEPS: [Step; 1] = [(
    1,
    "orders",
    include_str!("../../migrations/0001_orders.sql"),
)];

/// An order that was created.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stored {
    pub(crate) order: Order,
    /// The user's name at that time.
    pub(crate) user_name: String,
    pub(crate) created_at_ms: i64,
}

/// Where a page ends: after this order, among those of its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) created_at_ms: i64,
    pub(crate) order_id: String,
}

impl Stored {
    /// Where a page ends that ends with this order.
    pub(crate) fn place(&self) -> Place {
        Place {
            created_at_ms: self.created_at_ms,
            order_id: self.order.order_id.clone(),
        }
    }
}

/// What came of storing an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Creation {
    /// It is stored now.
    New(Stored),
    /// There was one of its id: this.
    Earlier(Stored),
}

/// Why there is no answer from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// As many orders wait to be written as may; nothing was done.
    Full,
    /// The database failed, and has said why in the log. What was to be written
    /// may have been.
    Failed,
}

/// All orders.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: AnyPool,
    writer: Writer,
}

/// Orders that are read at once for a page: of the largest, 9 MB of text.
const READ_AT_ONCE: usize = 16;

const COLUMNS: &str = "order_id, user_id, user_name, items, total, created_at_ms";

impl Store {
    /// Reads from and writes to `pool`, for as long as there is a clone.
    pub(crate) fn new(pool: AnyPool) -> Self {
        Self {
            writer: Writer::start(pool.clone()),
            pool,
        }
    }

    /// Completes when nothing can be written any more.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        self.writer.clone().ended()
    }

    /// The order of that id.
    pub(crate) async fn find(&self, order_id: &str) -> Result<Option<Stored>, StoreError> {
        find(&self.pool, order_id).await.map_err(failed)
    }

    /// Stores an order. Once this returns, it is on disk.
    ///
    /// # Cancellation
    /// Dropped, it may have been stored or not. Its turn is over only when that
    /// is decided, so whoever asks again finds out.
    pub(crate) async fn create(&self, new: Stored, turn: Turn) -> Result<Creation, StoreError> {
        self.writer.write(new, turn).await
    }

    /// At most `limit` orders of that user, the newest first, from `after` on. No
    /// more are read than have `items_max` items, and at most 15 beyond; the last
    /// that is returned may be beyond.
    pub(crate) async fn list(
        &self,
        user_id: &str,
        after: Option<&Place>,
        limit: usize,
        items_max: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        answer(self.listed(user_id, after, limit, items_max))
            .await
            .map_err(failed)
    }

    async fn listed(
        &self,
        user_id: &str,
        after: Option<&Place>,
        limit: usize,
        items_max: usize,
    ) -> sqlx::Result<Vec<Stored>> {
        let sql = "SELECT order_id, user_id, user_name, items, total, created_at_ms FROM orders \
                   WHERE user_id = $1 AND (created_at_ms, order_id) < ($2, $3) \
                   ORDER BY created_at_ms DESC, order_id DESC LIMIT $4";
        let mut connection = Lent::from(&self.pool).await?;
        let (mut orders, mut items) = (Vec::new(), 0);
        let mut after = after.cloned();
        loop {
            let asked = READ_AT_ONCE.min(limit - orders.len());
            let rows = sqlx::query(sql)
                .bind(user_id)
                .bind(after.as_ref().map_or(i64::MAX, |place| place.created_at_ms))
                .bind(after.as_ref().map_or("", |place| &place.order_id))
                .bind(i64::try_from(asked).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await?;
            for row in &rows {
                let next = stored(row)?;
                items += next.order.items.len();
                orders.push(next);
                if items > items_max {
                    return Ok(orders);
                }
            }
            if rows.len() < asked || orders.len() == limit {
                return Ok(orders);
            }
            after = orders.last().map(Stored::place);
        }
    }
}

async fn find(pool: &AnyPool, order_id: &str) -> sqlx::Result<Option<Stored>> {
    let sql = "SELECT order_id, user_id, user_name, items, total, created_at_ms FROM orders \
               WHERE order_id = $1";
    let mut connection = Lent::from(pool).await?;
    let found = sqlx::query(sql)
        .bind(order_id)
        .fetch_optional(&mut *connection);
    answer(found).await?.as_ref().map(stored).transpose()
}

/// What went wrong is for the log; a caller can do nothing about it but come
/// back.
fn failed(error: sqlx::Error) -> StoreError {
    error!(%error, "the database failed");
    StoreError::Failed
}

/// An item as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Item {
    product_id: String,
    quantity: i32,
    price: f64,
}

fn items_to_text(items: &[OrderItem]) -> String {
    let items: Vec<Item> = items
        .iter()
        .map(|item| Item {
            product_id: item.product_id.clone(),
            quantity: item.quantity,
            price: item.price,
        })
        .collect();
    serde_json::to_string(&items).expect("texts and finite numbers are JSON")
}

fn items_of_text(text: &str) -> serde_json::Result<Vec<OrderItem>> {
    let items: Vec<Item> = serde_json::from_str(text)?;
    let item = |item: Item| OrderItem {
        product_id: item.product_id,
        quantity: item.quantity,
        price: item.price,
    };
    Ok(items.into_iter().map(item).collect())
}

fn stored(row: &AnyRow) -> sqlx::Result<Stored> {
    let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    let items = items_of_text(row.try_get("items")?).map_err(|error| decode(error.into()))?;
    let total: Decimal = row
        .try_get::<&str, _>("total")?
        .parse()
        .map_err(|error: rust_decimal::Error| decode(error.into()))?;
    Ok(Stored {
        order: Order {
            order_id: row.try_get("order_id")?,
            user_id: row.try_get("user_id")?,
            items,
            total,
        },
        user_name: row.try_get("user_name")?,
        created_at_ms: row.try_get("created_at_ms")?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::{prelude::*, test_runner::TestRunner};
    use service_kit::database::{self, DatabaseUrl};

    use super::*;

    pub(crate) const MANY: usize = 1_000_000;

    /// An empty store, in memory.
    pub(crate) async fn store() -> Store {
        let pool = database::open(&DatabaseUrl::memory(), &STEPS).await;
        Store::new(pool.unwrap())
    }

    pub(crate) fn of(order_id: &str, user_id: &str, created_at_ms: i64) -> Stored {
        Stored {
            order: Order {
                order_id: order_id.into(),
                user_id: user_id.into(),
                items: vec![OrderItem {
                    product_id: "tea".into(),
                    quantity: 3,
                    price: 0.1,
                }],
                total: Decimal::new(3, 1),
            },
            user_name: "Иван Иванов".into(),
            created_at_ms,
        }
    }

    async fn create(store: &Store, new: &Stored) -> Creation {
        let turn = Turns::default().take(&new.order.order_id).await;
        store.create(new.clone(), turn).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_created_is_found_and_a_second_of_its_id_is_told_of_the_first() {
        let store = store().await;
        let (first, second) = (of("a", "user-1", 1), of("a", "user-2", 2));

        assert_eq!(store.find("a").await, Ok(None));
        assert_eq!(create(&store, &first).await, Creation::New(first.clone()));
        assert_eq!(
            create(&store, &second).await,
            Creation::Earlier(first.clone())
        );
        assert_eq!(store.find("a").await, Ok(Some(first)));
    }

    #[tokio::test]
    async fn pages_are_of_one_user_newest_first_and_miss_nothing() {
        let store = store().await;
        let mut expected = Vec::new();
        for (at, id) in [(5, "e"), (3, "c"), (3, "b"), (1, "a")] {
            let order = of(id, "user-1", at);
            create(&store, &order).await;
            expected.push(order);
        }
        create(&store, &of("other", "user-2", 4)).await;

        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.list("user-1", after.as_ref(), 1, MANY).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.place());
            seen.extend(page);
        }
        assert_eq!(seen, expected);
        let three = store.list("user-1", None, 3, MANY).await.unwrap();
        assert_eq!(three, expected[..3]);
    }

    #[tokio::test]
    async fn orders_are_read_until_there_are_items_enough_or_none_are_left() {
        let store = store().await;
        for at in 0..50 {
            create(&store, &of(&format!("{at:02}"), "user-1", at)).await;
        }
        let ids = async |limit, items_max| {
            let listed = store.list("user-1", None, limit, items_max).await.unwrap();
            let ids = listed.into_iter().map(|stored| stored.order.order_id);
            ids.collect::<Vec<_>>()
        };
        let newest = |count: i32| (0..count).map(|at| format!("{:02}", 49 - at));

        for (limit, items_max, read) in [
            (101, MANY, 50),
            (50, MANY, 50),
            (49, MANY, 49),
            (32, MANY, 32),
            (101, 20, 21), // each has one item
            (101, 15, 16),
            (101, 0, 1),
        ] {
            let expected: Vec<_> = newest(read).collect();
            assert_eq!(
                ids(limit, items_max).await,
                expected,
                "{limit}, {items_max}"
            );
        }
    }

    #[test]
    fn every_price_reads_back_as_it_was() {
        let mut runner = TestRunner::deterministic();
        runner
            .run(&(0.0..1e9_f64), |price| {
                let items = [OrderItem {
                    product_id: "\"\\\u{1f600}".into(),
                    quantity: 1,
                    price,
                }];
                let back = items_of_text(&items_to_text(&items)).unwrap();
                prop_assert_eq!(back, items);
                Ok(())
            })
            .unwrap();
    }
}
