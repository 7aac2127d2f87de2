//! Which requests are malformed, and what the others cost.
//!
//! Every field is bounded, so that no total can overflow and no request can
//! cost much. All that is wrong is reported at once, each with its field, as
//! a `google.rpc.BadRequest`.

use std::{fmt, str::FromStr as _};

use proto::order::{CreateOrderRequest, OrderItem};
use rust_decimal::Decimal;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Longest order, user or product id.
const ID_CHARS_MAX: usize = 128;
/// Most items in an order.
const ITEMS_MAX: usize = 1000;
/// Largest quantity of an item.
const QUANTITY_MAX: i32 = 1_000_000;
/// Highest price of one piece.
const PRICE_MAX: f64 = 1e9;
/// Violations that are reported. They travel in a header, and clients accept
/// 16 KiB of headers or less.
const REPORTED_MAX: usize = 20;

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) user_id: String,
    /// Exact: three items at 0.1 are 0.3.
    pub(crate) total: Decimal,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadRequest {
    /// At least one, and at most [`REPORTED_MAX`].
    reported: Vec<(String, String)>,
    found: usize,
}

impl Order {
    /// Checks a request.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(crate) fn check(request: CreateOrderRequest) -> Result<Self, BadRequest> {
        let mut bad = BadRequest {
            reported: Vec::new(),
            found: 0,
        };
        let CreateOrderRequest {
            order_id,
            user_id,
            items,
        } = request;
        for (field, id) in [("order_id", &order_id), ("user_id", &user_id)] {
            if id.trim().is_empty() {
                bad.find(field, "must not be empty");
            }
            bad.check_length(field, id);
        }
        match items.len() {
            0 => bad.find("items", "must not be empty"),
            1..=ITEMS_MAX => {}
            _ => bad.find("items", format!("must be at most {ITEMS_MAX}")),
        }
        let mut total = Some(Decimal::ZERO);
        for (at, item) in items.iter().take(ITEMS_MAX).enumerate() {
            let cost = cost(at, item, &mut bad);
            total = total
                .zip(cost)
                .and_then(|(total, cost)| total.checked_add(cost));
        }
        match total {
            Some(total) if bad.found == 0 => Ok(Self {
                order_id,
                user_id,
                total,
            }),
            None if bad.found == 0 => {
                bad.find("items", "must have a total that can be counted");
                Err(bad)
            }
            _ => Err(bad),
        }
    }

    /// The total as the protocol has it: the nearest there is to the exact one.
    pub(crate) fn total_amount(&self) -> f64 {
        let text = self.total.normalize().to_string();
        text.parse().expect("a decimal number is a number")
    }
}

/// What an item costs, if it makes sense.
fn cost(at: usize, item: &OrderItem, bad: &mut BadRequest) -> Option<Decimal> {
    bad.check_length(format_args!("items[{at}].product_id"), &item.product_id);
    if !(1..=QUANTITY_MAX).contains(&item.quantity) {
        let rule = format!("must be from 1 to {QUANTITY_MAX}");
        bad.find(format_args!("items[{at}].quantity"), rule);
    }
    // Which is also what NaN is not.
    if !(0.0..=PRICE_MAX).contains(&item.price) {
        let rule = format!("must be from 0 to {PRICE_MAX}");
        bad.find(format_args!("items[{at}].price"), rule);
        return None;
    }
    price(item.price)?.checked_mul(Decimal::from(item.quantity))
}

/// The price that was meant: the shortest decimal number that a client could
/// have turned into this `f64`.
fn price(price: f64) -> Option<Decimal> {
    Decimal::from_str(&price.abs().to_string()).ok()
}

impl BadRequest {
    fn find(&mut self, field: impl fmt::Display, rule: impl Into<String>) {
        self.found += 1;
        if self.reported.len() < REPORTED_MAX {
            self.reported.push((field.to_string(), rule.into()));
        }
    }

    fn check_length(&mut self, field: impl fmt::Display, id: &str) {
        // No id of fewer bytes has more characters.
        if id.len() > ID_CHARS_MAX && id.chars().count() > ID_CHARS_MAX {
            self.find(
                field,
                format!("must have at most {ID_CHARS_MAX} characters"),
            );
        }
    }

    /// INVALID_ARGUMENT, with each field named in its details.
    pub(crate) fn into_status(self) -> Status {
        let message = match &self.reported[..] {
            [(field, rule)] => format!("{field} {rule}"),
            [(field, rule), ..] => format!("{field} {rule}, and {} more", self.found - 1),
            [] => "bad request".to_owned(),
        };
        let violations: Vec<FieldViolation> = self
            .reported
            .into_iter()
            .map(|(field, rule)| FieldViolation::new(field, rule))
            .collect();
        let details = ErrorDetails::with_bad_request(violations);
        Status::with_error_details(Code::InvalidArgument, message, details)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn item(quantity: i32, price: f64) -> OrderItem {
        OrderItem {
            product_id: "product-1".into(),
            quantity,
            price,
        }
    }

    fn request(items: Vec<OrderItem>) -> CreateOrderRequest {
        CreateOrderRequest {
            order_id: "order-1".into(),
            user_id: "user-123".into(),
            items,
        }
    }

    fn total(items: Vec<OrderItem>) -> f64 {
        Order::check(request(items)).unwrap().total_amount()
    }

    /// The fields that are reported, and how many were found.
    fn fields(request: CreateOrderRequest) -> (Vec<String>, usize) {
        let bad = Order::check(request).unwrap_err();
        (
            bad.reported.into_iter().map(|(field, _)| field).collect(),
            bad.found,
        )
    }

    #[test]
    fn three_items_at_a_tenth_are_three_tenths() {
        assert_eq!(total(vec![item(1, 0.1), item(1, 0.1), item(1, 0.1)]), 0.3);
        assert_eq!(total(vec![item(3, 0.1)]), 0.3);
        assert_eq!(total(vec![item(2, 99.99), item(1, 0.02)]), 200.0);
        assert_eq!(total(vec![item(1, 0.0)]), 0.0);
        assert_eq!(total(vec![item(1, -0.0)]).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn the_largest_order_has_a_total() {
        let items = vec![item(QUANTITY_MAX, PRICE_MAX); ITEMS_MAX];
        assert_eq!(total(items), 1e18);
    }

    #[test]
    fn each_field_that_is_wrong_is_named() {
        let nothing = CreateOrderRequest::default();
        assert_eq!(
            fields(nothing),
            (vec!["order_id".into(), "user_id".into(), "items".into()], 3)
        );
        for (wrong, field) in [
            (item(0, 1.0), "items[1].quantity"),
            (item(-1, 1.0), "items[1].quantity"),
            (item(QUANTITY_MAX + 1, 1.0), "items[1].quantity"),
            (item(1, -0.01), "items[1].price"),
            (item(1, f64::NAN), "items[1].price"),
            (item(1, f64::INFINITY), "items[1].price"),
            (item(1, PRICE_MAX * 1.01), "items[1].price"),
            (
                OrderItem {
                    product_id: "x".repeat(129),
                    ..item(1, 1.0)
                },
                "items[1].product_id",
            ),
        ] {
            let request = request(vec![item(1, 1.0), wrong]);
            assert_eq!(fields(request), (vec![field.into()], 1));
        }
        let blank = CreateOrderRequest {
            order_id: " \t".into(),
            ..request(vec![item(1, 1.0)])
        };
        assert_eq!(fields(blank), (vec!["order_id".into()], 1));
    }

    #[test]
    fn a_limit_is_counted_in_characters() {
        let long = |chars| CreateOrderRequest {
            user_id: "Ж".repeat(chars),
            ..request(vec![item(1, 1.0)])
        };
        assert!(Order::check(long(ID_CHARS_MAX)).is_ok());
        assert_eq!(fields(long(ID_CHARS_MAX + 1)), (vec!["user_id".into()], 1));
    }

    #[test]
    fn a_request_that_is_all_wrong_gets_a_report_that_fits_into_headers() {
        let worst = OrderItem {
            product_id: "x".repeat(1000),
            quantity: -1,
            price: f64::NAN,
        };
        let status = Order::check(request(vec![worst; 5000]))
            .unwrap_err()
            .into_status();

        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "items must be at most 1000, and 3000 more"
        );
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations.len(), REPORTED_MAX);
        assert_eq!(violations[3].field, "items[0].price");
        assert!(status.details().len() < 4096, "{}", status.details().len());
    }

    proptest! {
        #[test]
        fn no_request_panics_and_every_total_is_finite(
            items in vec((any::<i32>(), any::<f64>()), 0..5),
        ) {
            let items = items.into_iter().map(|(quantity, price)| item(quantity, price)).collect();
            if let Ok(order) = Order::check(request(items)) {
                prop_assert!(order.total_amount().is_finite());
                prop_assert!(order.total_amount() >= 0.0);
            }
        }

        #[test]
        fn every_price_in_range_is_accepted_and_cents_are_exact(
            cents in 0..100_000_000_000u64, quantity in 1..1000i32,
        ) {
            let price = cents as f64 / 100.0;
            let exact = Decimal::new(i64::try_from(cents).unwrap(), 2) * Decimal::from(quantity);
            let order = Order::check(request(vec![item(quantity, price)])).unwrap();
            prop_assert_eq!(order.total, exact);
        }

        #[test]
        fn no_price_is_too_fine(price in 0.0..PRICE_MAX, tiny in 0.0..1e-200) {
            prop_assert!(Order::check(request(vec![item(1, price), item(1, tiny)])).is_ok());
        }
    }
}
