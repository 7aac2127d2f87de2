//! `order.OrderService`: what happens to a request, in order.
//!
//! A request to create an order is checked; waits while another one of its id is
//! under way; is answered from the store when the order is there already; and
//! only then the user service is asked, and when that has said yes, the order is
//! stored. Whatever comes of it is counted once, and written to the log in one
//! line.

use std::time::{Duration, SystemTime};

use proto::order::{
    self, CreateOrderRequest, CreateOrderResponse, GetOrderRequest, ListOrdersRequest,
    ListOrdersResponse, order_service_server::OrderService,
};
use service_kit::{
    Deadline,
    log::{Id, took_ms},
    overloaded,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};
use tracing::info;

use crate::{
    client::{NoAnswer, UserClient, Verdict},
    limits::{self, Order, PAGE_ITEMS_MAX, Page},
    metrics::{Orders, Outcome},
    page,
    store::{Creation, Store, StoreError, Stored, Turn, Turns},
};

/// How long a request without a deadline waits for another one of its id: longer
/// than that one takes, when nothing hangs.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Takes orders.
#[derive(Debug)]
pub(crate) struct Service {
    users: UserClient,
    store: Store,
    turns: Turns,
    orders: Orders,
}

/// What to answer, and what came of the request.
type Answer = (Result<CreateOrderResponse, Status>, Outcome);

impl Service {
    pub(crate) fn new(users: UserClient, store: Store) -> Self {
        Self {
            users,
            store,
            turns: Turns::default(),
            orders: Orders::new(),
        }
    }

    async fn answer(&self, request: CreateOrderRequest, caller: Option<Deadline>) -> Answer {
        let order = match Order::check(request) {
            Ok(order) => order,
            Err(status) => return (Err(status), Outcome::BadRequest),
        };
        let until = caller.map_or_else(|| Instant::now() + TURN_WAIT_MAX, |Deadline(at)| at);
        let Ok(turn) = timeout_at(until, self.turns.take(&order.order_id)).await else {
            return (Err(busy(caller)), Outcome::Deadline);
        };
        match self.store.find(&order.order_id).await {
            Ok(None) => {}
            Ok(Some(earlier)) => return again(&order, &earlier),
            Err(error) => return (Err(not_stored(error)), Outcome::Storage),
        }
        match self.users.validate(&order.user_id, caller).await {
            Ok(Verdict::Valid { user_name }) => self.store(order, user_name, turn).await,
            Ok(Verdict::Invalid { reason }) => (Ok(error(order, reason)), Outcome::UserInvalid),
            Err(NoAnswer::CallerTimedOut) => {
                (Err(Status::deadline_exceeded(TOO_LATE)), Outcome::Deadline)
            }
            Err(no_answer) => {
                let outcome = match no_answer {
                    NoAnswer::Refused(_) => Outcome::Refused,
                    NoAnswer::Failed(_) => Outcome::Upstream,
                    NoAnswer::TimedOut(_) | NoAnswer::CallerTimedOut => Outcome::Deadline,
                };
                (
                    Ok(error(order, format!("user validation failed: {no_answer}"))),
                    outcome,
                )
            }
        }
    }

    async fn store(&self, order: Order, user_name: String, turn: Turn) -> Answer {
        let new = Stored {
            order: order.clone(),
            user_name,
            created_at_ms: now_ms(),
        };
        match self.store.create(new, turn).await {
            Ok(Creation::New(stored)) => (Ok(created(&stored)), Outcome::Created),
            // By another process, a moment ago.
            Ok(Creation::Earlier(earlier)) => again(&order, &earlier),
            Err(error) => (Err(not_stored(error)), Outcome::Storage),
        }
    }
}

const TOO_LATE: &str = "the caller's deadline passed before the user service answered";

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since_epoch.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// The answer to a request whose id has an order.
fn again(order: &Order, earlier: &Stored) -> Answer {
    if order.asks_for_the_same(&earlier.order) {
        (Ok(created(earlier)), Outcome::Repeated)
    } else {
        let id = Id(&order.order_id);
        let message = format!("there is another order of the id {id}");
        (Err(Status::already_exists(message)), Outcome::Conflict)
    }
}

fn created(stored: &Stored) -> CreateOrderResponse {
    CreateOrderResponse {
        order_id: stored.order.order_id.clone(),
        status: "CREATED".to_owned(),
        user_name: stored.user_name.clone(),
        total_amount: stored.order.total_amount(),
        error_message: String::new(),
    }
}

fn error(order: Order, error_message: String) -> CreateOrderResponse {
    CreateOrderResponse {
        order_id: order.order_id,
        status: "ERROR".to_owned(),
        error_message,
        ..CreateOrderResponse::default()
    }
}

fn busy(caller: Option<Deadline>) -> Status {
    let message = "another request of this order_id is still under way";
    match caller {
        Some(_) => Status::deadline_exceeded(message),
        None => Status::aborted(message),
    }
}

/// Nobody knows whether it was stored, so it is no ERROR, which would say that
/// the id is free: whoever asks again finds out.
fn not_stored(error: StoreError) -> Status {
    match error {
        StoreError::Full => overloaded("too many orders wait to be stored"),
        StoreError::Failed => Status::unavailable("the orders cannot be reached just now"),
    }
}

/// How many of these orders fit on a page: by their items, which are what makes
/// an order large, and at least one.
fn fitting(orders: &[Stored]) -> usize {
    let mut items = 0;
    let fits = |stored: &&Stored| {
        items += stored.order.items.len();
        items <= PAGE_ITEMS_MAX
    };
    orders.iter().take_while(fits).count().max(1)
}

fn shown(stored: Stored) -> order::Order {
    let total_amount = stored.order.total_amount();
    let Order {
        order_id,
        user_id,
        items,
        ..
    } = stored.order;
    order::Order {
        order_id,
        user_id,
        user_name: stored.user_name,
        items,
        total_amount,
        created_at_unix_ms: stored.created_at_ms,
    }
}

#[tonic::async_trait]
impl OrderService for Service {
    async fn create_order(
        &self,
        request: Request<CreateOrderRequest>,
    ) -> Result<Response<CreateOrderResponse>, Status> {
        let caller = request.extensions().get().copied();
        let request = request.into_inner();
        let mut record = Record {
            orders: &self.orders,
            order_id: Id(&request.order_id).to_string(),
            user_id: Id(&request.user_id).to_string(),
            started: Instant::now(),
            caller,
            outcome: None,
        };
        let (answer, outcome) = self.answer(request, caller).await;
        record.outcome = Some(outcome);
        answer.map(Response::new)
    }

    async fn get_order(
        &self,
        request: Request<GetOrderRequest>,
    ) -> Result<Response<order::Order>, Status> {
        let id = request.into_inner().order_id;
        limits::known_id(&id)?;
        let found = self.store.find(&id).await.map_err(not_stored)?;
        found
            .map(|stored| Response::new(shown(stored)))
            .ok_or_else(|| Status::not_found(format!("order not found: {}", Id(&id))))
    }

    async fn list_orders(
        &self,
        request: Request<ListOrdersRequest>,
    ) -> Result<Response<ListOrdersResponse>, Status> {
        let Page {
            user_id,
            size,
            after,
        } = Page::check(request.into_inner())?;
        // One more than is shown says whether there is another page.
        let listed = self
            .store
            .list(&user_id, after.as_ref(), size + 1, PAGE_ITEMS_MAX)
            .await;
        let mut orders = listed.map_err(not_stored)?;
        let shown_now = fitting(&orders).min(size);
        let more = orders.len() > shown_now;
        orders.truncate(shown_now);
        let next_page_token = match orders.last() {
            Some(last) if more => page::token_of(&last.place()),
            _ => String::new(),
        };
        Ok(Response::new(ListOrdersResponse {
            orders: orders.into_iter().map(shown).collect(),
            next_page_token,
        }))
    }
}

/// Counts a request and writes its line when dropped, which happens to a call
/// that is cut off too.
struct Record<'a> {
    orders: &'a Orders,
    order_id: String,
    user_id: String,
    started: Instant,
    caller: Option<Deadline>,
    outcome: Option<Outcome>,
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // Cut off at its deadline, a call timed out. Cut off before that, its
        // caller has gone, which says nothing about orders.
        let late = self.caller.is_some_and(|Deadline(at)| Instant::now() >= at);
        let outcome = self.outcome.or(late.then_some(Outcome::Deadline));
        let (status, reason) = match outcome {
            Some(outcome) => {
                self.orders.count(outcome);
                outcome.labels()
            }
            None => ("cancelled", "none"),
        };
        info!(
            order_id = %self.order_id,
            user_id = %self.user_id,
            outcome = status,
            reason,
            took_ms = took_ms(self.started),
            "call"
        );
    }
}
