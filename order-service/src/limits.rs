//! What each field of a request may hold, and a name that is kept, and what an
//! order costs: the only file that says so.
//!
//! Every field is bounded, so that no total can overflow and no request can
//! cost much. All that is wrong is reported at once, each with its field, as
//! a `google.rpc.BadRequest`.

use std::str::FromStr as _;

use proto::order::{CreateOrderRequest, ListOrdersRequest, OrderItem};
use rust_decimal::Decimal;
use service_kit::BadRequest;
use tonic::Status;

use crate::{page, store::Place};

/// Longest message, which is an order with all that its fields may hold. tonic
/// refuses a longer one before it is read, as OUT_OF_RANGE. No more than that, for
/// a message may say much with little: an empty item has two bytes, and takes
/// forty once it is read.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2 * ID_BYTES_MAX + ITEMS_MAX * ITEM_BYTES_MAX;
/// An id on the wire: its field, its length, and four bytes a character.
const ID_BYTES_MAX: usize = 3 + 4 * ID_CHARS_MAX;
/// An item on the wire: its field and length, product, quantity and price.
const ITEM_BYTES_MAX: usize = 3 + ID_BYTES_MAX + 4 + 9;
/// Longest order, user or product id, in characters; as in the user service.
const ID_CHARS_MAX: usize = 128;
/// Longest name of a user, in characters; as in the user service.
const NAME_CHARS_MAX: usize = 200;
/// Most items in an order.
const ITEMS_MAX: usize = 1000;
/// Largest quantity of an item.
const QUANTITY_MAX: i32 = 1_000_000;
/// Highest price of one piece.
const PRICE_MAX: f64 = 1e9;
/// Most orders on a page, and how many there are unless the caller says.
const PAGE_MAX: i32 = 100;
const PAGE_DEFAULT: i32 = 20;

/// Most items on a page: clients take 4 MiB, and an item has about half a KiB.
/// An order fits by itself.
pub(crate) const PAGE_ITEMS_MAX: usize = 5 * ITEMS_MAX;

/// The name of a user as it can be kept. An order is not lost for a strange one:
/// what is too long is cut off, and a control character becomes a space. (PostgreSQL
/// refuses a zero, and with it every order of the same commit.)
pub(crate) fn name_to_keep(name: &str) -> String {
    name.chars()
        .take(NAME_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A request that makes sense.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Order {
    pub(crate) order_id: String,
    pub(crate) user_id: String,
    pub(crate) items: Vec<OrderItem>,
    /// Exact: three items at 0.1 are 0.3.
    pub(crate) total: Decimal,
}

/// A page of a user's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) user_id: String,
    pub(crate) size: usize,
    pub(crate) after: Option<Place>,
}

impl Order {
    /// Checks a request.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with all that is wrong with it.
    pub(crate) fn check(request: CreateOrderRequest) -> Result<Self, Status> {
        let mut bad = BadRequest::new();
        let CreateOrderRequest {
            order_id,
            user_id,
            mut items,
        } = request;
        check_id("order_id", &order_id, &mut bad);
        check_id("user_id", &user_id, &mut bad);
        match items.len() {
            0 => bad.find("items", "must not be empty"),
            1..=ITEMS_MAX => {}
            _ => bad.find("items", format!("must be at most {ITEMS_MAX}")),
        }
        let mut total = Some(Decimal::ZERO);
        for (at, item) in items.iter_mut().take(ITEMS_MAX).enumerate() {
            let cost = cost(at, item, &mut bad);
            total = total
                .zip(cost)
                .and_then(|(total, cost)| total.checked_add(cost));
        }
        if total.is_none() && bad.is_empty() {
            bad.find("items", "must have a total that can be counted");
        }
        bad.into_result()?;
        Ok(Self {
            order_id,
            user_id,
            items,
            total: total.unwrap_or_default(),
        })
    }

    /// Whether another order of this id asks for the same.
    pub(crate) fn asks_for_the_same(&self, other: &Self) -> bool {
        (&self.user_id, &self.items) == (&other.user_id, &other.items)
    }

    /// The total as the protocol has it: the nearest there is to the exact one.
    pub(crate) fn total_amount(&self) -> f64 {
        let text = self.total.normalize().to_string();
        text.parse().expect("a decimal number is a number")
    }
}

/// The id of an order to look for.
///
/// # Errors
/// INVALID_ARGUMENT, when no order can have it.
pub(crate) fn known_id(order_id: &str) -> Result<(), Status> {
    let mut bad = BadRequest::new();
    check_id("order_id", order_id, &mut bad);
    bad.into_result()
}

impl Page {
    /// Checks a request.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with all that is wrong with it.
    pub(crate) fn check(request: ListOrdersRequest) -> Result<Self, Status> {
        let mut bad = BadRequest::new();
        let ListOrdersRequest {
            user_id,
            page_size,
            page_token,
        } = request;
        check_id("user_id", &user_id, &mut bad);
        if !(0..=PAGE_MAX).contains(&page_size) {
            bad.find("page_size", format!("must be from 0 to {PAGE_MAX}"));
        }
        let after = match &*page_token {
            "" => None,
            token => {
                let after = page::place_of(token);
                if after.is_none() {
                    bad.find("page_token", "must be the next_page_token of a page");
                }
                after
            }
        };
        bad.into_result()?;
        let size = match page_size {
            0 => PAGE_DEFAULT,
            size => size,
        };
        Ok(Self {
            user_id,
            size: size.unsigned_abs() as usize,
            after,
        })
    }
}

fn check_id(field: &str, id: &str, bad: &mut BadRequest) {
    bad.check_some_text(field, id, ID_CHARS_MAX);
}

/// What an item costs, if it makes sense. A price of minus nothing becomes
/// nothing.
fn cost(at: usize, item: &mut OrderItem, bad: &mut BadRequest) -> Option<Decimal> {
    bad.check_text(
        format_args!("items[{at}].product_id"),
        &item.product_id,
        ID_CHARS_MAX,
    );
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
    item.price = item.price.abs();
    price(item.price)?.checked_mul(Decimal::from(item.quantity))
}

/// The price that was meant: the shortest decimal number that a client could
/// have turned into this `f64`.
fn price(price: f64) -> Option<Decimal> {
    Decimal::from_str(&price.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use tonic::Code;
    use tonic_types::StatusExt as _;

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

    /// The fields that a refusal names.
    fn named<T: std::fmt::Debug>(checked: Result<T, Status>) -> Vec<String> {
        let status = checked.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let violations = details.bad_request().unwrap().field_violations.iter();
        violations
            .map(|violation| violation.field.clone())
            .collect()
    }

    fn fields(request: CreateOrderRequest) -> Vec<String> {
        named(Order::check(request))
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
        assert_eq!(fields(nothing), ["order_id", "user_id", "items"]);
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
            assert_eq!(fields(request), [field]);
        }
        let blank = CreateOrderRequest {
            order_id: " \t".into(),
            ..request(vec![item(1, 1.0)])
        };
        assert_eq!(fields(blank), ["order_id"]);
    }

    #[test]
    fn text_that_is_odd_but_text_is_taken_as_it_is() {
        for odd in [
            "e\u{301}",                   // a combining accent, not the same as é
            "\u{202e}abc",                // written from the right
            "\u{200b}\u{feff}",           // no width, and no space either
            "\u{1f468}\u{200d}\u{1f469}", // two people who are one character
            "\u{10ffff}",
            "'; DROP TABLE orders; --",
            "%_\\",
        ] {
            let order = Order::check(CreateOrderRequest {
                order_id: odd.into(),
                ..request(vec![item(1, 1.0)])
            });
            assert_eq!(order.unwrap().order_id, odd);
        }
        for refused in [
            "\0",
            "a\0b",
            "\u{1b}[31m",
            "a\r\nb",
            "\u{85}",
            "\u{a0}",
            "\u{3000}",
        ] {
            let order = Order::check(CreateOrderRequest {
                order_id: refused.into(),
                ..request(vec![item(1, 1.0)])
            });
            assert_eq!(named(order), ["order_id"], "{refused:?}");
        }
    }

    #[test]
    fn a_strange_name_is_cleaned_and_cut() {
        assert_eq!(
            name_to_keep("Иван e\u{301}\u{202e}"),
            "Иван e\u{301}\u{202e}"
        );
        assert_eq!(name_to_keep("A\0B\r\n\u{85}C"), "A B   C");
        let longest = "ж".repeat(NAME_CHARS_MAX);
        assert_eq!(name_to_keep(&longest), longest);
        assert_eq!(name_to_keep(&format!("{longest}ж")), longest);
    }

    #[test]
    fn minus_nothing_is_nothing() {
        let order = Order::check(request(vec![item(1, -0.0)])).unwrap();
        assert_eq!(order.items[0].price.to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn a_page_is_checked_too() {
        let page = |user_id: &str, page_size, page_token: &str| {
            Page::check(ListOrdersRequest {
                user_id: user_id.into(),
                page_size,
                page_token: page_token.into(),
            })
        };
        assert_eq!(page("user-1", 0, "").unwrap().size, 20);
        assert_eq!(page("user-1", 100, "").unwrap().size, 100);
        assert_eq!(
            named(page("", -1, "x")),
            ["user_id", "page_size", "page_token"]
        );
        assert_eq!(named(page("user-1", 101, "")), ["page_size"]);
        assert_eq!(named(page("user-1", i32::MIN, "")), ["page_size"]);
        assert_eq!(named(page("user-1", 1, "00")), ["page_token"]);
    }

    #[test]
    fn a_limit_is_counted_in_characters() {
        let long = |chars| CreateOrderRequest {
            user_id: "Ж".repeat(chars),
            ..request(vec![item(1, 1.0)])
        };
        assert!(Order::check(long(ID_CHARS_MAX)).is_ok());
        assert_eq!(fields(long(ID_CHARS_MAX + 1)), ["user_id"]);
    }

    #[test]
    fn a_request_that_is_all_wrong_gets_a_report_that_fits_into_headers() {
        let worst = OrderItem {
            product_id: "x".repeat(1000),
            quantity: -1,
            price: f64::NAN,
        };
        let status = Order::check(request(vec![worst; 5000])).unwrap_err();

        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "items must be at most 1000, and 3000 more"
        );
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
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
