//! The same on PostgreSQL.
//!
//! Needs a server, which `.ci/postgres` starts; without it this test is ignored,
//! and says so.

mod common;

use common::{users, validate};
use proto::user::{CreateUserRequest, DeactivateUserRequest};
use service_kit::database::{DatabaseUrl, open};
use tonic::Code;
use user_service::{Settings, start};

#[tokio::test]
#[ignore = "needs PostgreSQL: run .ci/postgres"]
async fn users_are_kept_and_shared_by_all_who_serve_them() {
    let server = std::env::var("POSTGRES_URL").expect("POSTGRES_URL names a server: .ci/postgres");
    let admin: DatabaseUrl = format!("{server}/postgres").parse().unwrap();
    let admin = open(&admin, &[]).await.unwrap();
    for sql in ["DROP DATABASE IF EXISTS users", "CREATE DATABASE users"] {
        sqlx::query(sql).execute(&admin).await.unwrap();
    }
    let settings = Settings {
        database_url: format!("{server}/users").parse().unwrap(),
        ..Settings::default()
    };
    // Both bring the schema up to date, at the same time.
    let (one, other) = tokio::join!(start(settings.clone()), start(settings));
    let (one, other) = (one.unwrap(), other.unwrap());
    let (mut one, mut other) = (users(&one).await, users(&other).await);

    let valid = other.validate_user(validate("user-456")).await.unwrap();
    assert_eq!(valid.into_inner().user_name, "Мария Петрова");
    let anna = CreateUserRequest {
        user_id: "user-1".into(),
        name: "Анна".into(),
        email: "anna@example.com".into(),
    };
    one.create_user(anna.clone()).await.unwrap();
    let again = other.create_user(anna.clone()).await.unwrap();
    assert_eq!(again.into_inner().name, "Анна");
    let olga = CreateUserRequest {
        name: "Ольга".into(),
        ..anna
    };
    let status = other.create_user(olga).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let user_id = "user-1".to_owned();
    other
        .deactivate_user(DeactivateUserRequest { user_id })
        .await
        .unwrap();
    let refused = one.validate_user(validate("user-1")).await.unwrap();
    assert_eq!(refused.into_inner().error_message, "user is not active");
}
