//! What callers rely on, over a real connection.

mod common;

use common::{service, users, validate};
use proto::user::{UserRequest, ValidateUserResponse};
use tonic::Code;

#[tokio::test]
async fn a_known_user_is_found() {
    let service = service("off", false).await;
    let mut users = users(&service).await;

    for (id, name, email, active) in [
        ("user-123", "Иван Иванов", "ivan@example.com", true),
        ("user-456", "Мария Петрова", "maria@example.com", true),
        ("user-789", "Пётр Сидоров", "petr@example.com", false),
    ] {
        let user = users
            .get_user(UserRequest { user_id: id.into() })
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (&*user.user_id, &*user.name, &*user.email, user.active),
            (id, name, email, active)
        );
    }
}

#[tokio::test]
async fn an_unknown_user_is_not_found_by_an_answer_that_stays_small() {
    let service = service("off", false).await;
    let mut users = users(&service).await;

    for user_id in ["user-0".to_owned(), String::new(), "x\n".repeat(500_000)] {
        let status = users.get_user(UserRequest { user_id }).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().starts_with("user not found"), "{status:?}");
        assert!(status.message().len() < 300, "{}", status.message().len());
    }
}

#[tokio::test]
async fn validation_of_an_unknown_or_inactive_user_is_an_answer_and_not_a_failure() {
    let service = service("off", false).await;
    let mut users = users(&service).await;
    let mut answer = async |id| {
        users
            .validate_user(validate(id))
            .await
            .unwrap()
            .into_inner()
    };

    assert_eq!(
        answer("user-123").await,
        ValidateUserResponse {
            valid: true,
            user_name: "Иван Иванов".into(),
            error_message: String::new()
        }
    );
    for (id, reason) in [
        ("user-789", "user is not active"),
        ("user-0", "user not found"),
    ] {
        let refused = answer(id).await;
        assert!(!refused.valid);
        assert_eq!(refused.error_message, reason);
    }
}
