//! What callers rely on, over a real connection.

mod common;

use common::{service, users, validate};
use proto::user::{
    CreateUserRequest, DeactivateUserRequest, UserRequest, UserResponse, ValidateUserResponse,
};
use tonic::Code;
use tonic_types::StatusExt as _;

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

    for user_id in ["user-0".to_owned(), String::new(), "ж".repeat(128)] {
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

#[tokio::test]
async fn an_id_that_nobody_can_have_is_refused_and_named() {
    let service = service("off", false).await;
    let mut users = users(&service).await;

    for id in ["x".repeat(129), "a\0b".to_owned(), "two\nlines".to_owned()] {
        let request = UserRequest {
            user_id: id.clone(),
        };
        let got = users.get_user(request).await.unwrap_err();
        let validated = users.validate_user(validate(&id)).await.unwrap_err();
        for status in [got, validated] {
            assert_eq!(status.code(), Code::InvalidArgument, "{id:?}");
            let details = status.get_error_details();
            assert_eq!(
                details.bad_request().unwrap().field_violations[0].field,
                "user_id"
            );
        }
    }
    let user_id = "x".repeat(100_000);
    let status = users.get_user(UserRequest { user_id }).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "larger than any message");
}

#[tokio::test]
async fn a_user_is_created_once_and_may_order_until_deactivated() {
    let service = service("off", false).await;
    let mut users = users(&service).await;
    let new = |name: &str| CreateUserRequest {
        user_id: "user-1".into(),
        name: name.into(),
        email: "anna@example.com".into(),
    };
    let anna = UserResponse {
        user_id: "user-1".into(),
        name: "Анна".into(),
        email: "anna@example.com".into(),
        active: true,
    };

    for _ in 0..2 {
        let created = users.create_user(new("Анна")).await.unwrap();
        assert_eq!(created.into_inner(), anna);
    }
    let other = users.create_user(new("Ольга")).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    let valid = users.validate_user(validate("user-1")).await.unwrap();
    assert_eq!(valid.into_inner().user_name, "Анна");

    let request = DeactivateUserRequest {
        user_id: "user-1".into(),
    };
    for _ in 0..2 {
        let gone = users.deactivate_user(request.clone()).await.unwrap();
        assert!(!gone.into_inner().active);
    }
    let refused = users.validate_user(validate("user-1")).await.unwrap();
    assert_eq!(refused.into_inner().error_message, "user is not active");
    let unknown = DeactivateUserRequest {
        user_id: "user-0".into(),
    };
    let status = users.deactivate_user(unknown).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
