//! Whatever is sent, a handler answers: no panic, no INTERNAL.
#![allow(clippy::unwrap_used)] // allowed in tests, and so in what they share

mod common;

use common::{service, users, validate};
use proptest::{prelude::*, test_runner::TestRunner};
use proto::user::{CreateUserRequest, DeactivateUserRequest, UserRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<String>(),
        2 => prop::sample::select(vec!["user-123", "user-1", "a@b", "", "\0", "\u{202e}", "'; --"])
            .prop_map(str::to_owned),
        1 => (0..300_usize).prop_map(|length| "ж".repeat(length)),
    ]
}

/// What any answer may be.
fn expected(status: &Status) -> bool {
    let malformed = status.code() == Code::InvalidArgument
        && status.get_error_details().bad_request().is_some();
    malformed || matches!(status.code(), Code::NotFound | Code::AlreadyExists)
}

#[test]
fn any_request_is_answered_or_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_service, users) = runtime.block_on(async {
        let service = service("off", false).await;
        let users = users(&service).await;
        (service, users)
    });
    TestRunner::deterministic()
        .run(&(text(), text(), text()), |(user_id, name, email)| {
            let mut users = users.clone();
            let answers = runtime.block_on(async {
                let create = CreateUserRequest {
                    user_id: user_id.clone(),
                    name: name.clone(),
                    email: email.clone(),
                };
                let created = users.create_user(create).await;
                if let Ok(created) = &created {
                    let created = created.get_ref();
                    assert_eq!((&created.name, &created.email), (&name, &email));
                }
                let get = UserRequest {
                    user_id: user_id.clone(),
                };
                let deactivate = DeactivateUserRequest {
                    user_id: user_id.clone(),
                };
                [
                    created.map(drop),
                    users.validate_user(validate(&user_id)).await.map(drop),
                    users.get_user(get).await.map(drop),
                    users.deactivate_user(deactivate).await.map(drop),
                ]
            });
            for status in answers.into_iter().filter_map(Result::err) {
                prop_assert!(expected(&status), "{:?}", status);
            }
            Ok(())
        })
        .unwrap();
}
