//! `order.OrderService`: what happens to a request, in order.
//!
//! It is checked, then the user service is asked, and only when that has said
//! yes is anything created. Whatever comes of it is counted once, and written
//! to the log in one line.

use proto::order::{CreateOrderRequest, CreateOrderResponse, order_service_server::OrderService};
use service_kit::{
    Deadline,
    log::{Id, took_ms},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::{
    client::{NoAnswer, UserClient, Verdict},
    metrics::{Orders, Outcome},
    validate::Order,
};

/// Takes orders.
#[derive(Debug)]
pub(crate) struct Service {
    users: UserClient,
    orders: Orders,
}

impl Service {
    pub(crate) fn new(users: UserClient) -> Self {
        Self {
            users,
            orders: Orders::new(),
        }
    }

    /// What to answer, and what came of the request.
    async fn answer(
        &self,
        request: CreateOrderRequest,
        caller: Option<Deadline>,
    ) -> (Result<CreateOrderResponse, Status>, Outcome) {
        let order = match Order::check(request) {
            Ok(order) => order,
            Err(bad) => return (Err(bad.into_status()), Outcome::BadRequest),
        };
        match self.users.validate(&order.user_id, caller).await {
            Ok(Verdict::Valid { user_name }) => (Ok(created(order, user_name)), Outcome::Created),
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
}

const TOO_LATE: &str = "the caller's deadline passed before the user service answered";

fn created(order: Order, user_name: String) -> CreateOrderResponse {
    CreateOrderResponse {
        total_amount: order.total_amount(),
        order_id: order.order_id,
        status: "CREATED".to_owned(),
        user_name,
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
