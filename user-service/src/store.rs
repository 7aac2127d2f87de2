//! The users that there are, in the database.

use service_kit::database::{Lent, Step, answer};
use sqlx::{
    Any, AnyPool, Row as _,
    any::{AnyArguments, AnyRow},
    query::Query,
};

/// The schema, from its beginning.
pub(crate) const STEPS: [Step; 2] = [
    (1, "users", include_str!("../migrations/0001_users.sql")),
    (
        2,
        "first users",
        include_str!("../migrations/0002_first_users.sql"),
    ),
];

/// Someone who may want to order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) active: bool,
}

/// All users.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: AnyPool,
}

impl Store {
    pub(crate) fn new(pool: AnyPool) -> Self {
        Self { pool }
    }

    /// The user of that id.
    pub(crate) async fn find(&self, id: &str) -> sqlx::Result<Option<User>> {
        let sql = "SELECT user_id, name, email, active FROM users WHERE user_id = $1";
        let mut connection = Lent::from(&self.pool).await?;
        let found = sqlx::query(sql).bind(id).fetch_optional(&mut *connection);
        answer(found).await?.map(user).transpose()
    }

    /// Adds a user who may order, unless there is one of that id; and the user
    /// of that id, who is another when somebody else was first.
    pub(crate) async fn create(&self, new: &User) -> sqlx::Result<Option<User>> {
        let sql = "INSERT INTO users (user_id, name, email, active) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT DO NOTHING";
        let insert = sqlx::query(sql)
            .bind(&*new.id)
            .bind(&*new.name)
            .bind(&*new.email)
            .bind(i64::from(new.active));
        self.execute(insert).await?;
        self.find(&new.id).await
    }

    /// Makes the user of that id one who may not order, from now on.
    pub(crate) async fn deactivate(&self, id: &str) -> sqlx::Result<Option<User>> {
        let update = sqlx::query("UPDATE users SET active = 0 WHERE user_id = $1").bind(id);
        self.execute(update).await?;
        self.find(id).await
    }

    async fn execute(&self, statement: Query<'_, Any, AnyArguments>) -> sqlx::Result<()> {
        let mut connection = Lent::from(&self.pool).await?;
        answer(statement.execute(&mut *connection)).await?;
        Ok(())
    }
}

fn user(row: AnyRow) -> sqlx::Result<User> {
    Ok(User {
        id: row.try_get("user_id")?,
        name: row.try_get("name")?,
        email: row.try_get("email")?,
        active: row.try_get::<i64, _>("active")? == 1,
    })
}

impl User {
    /// Whether they may order.
    ///
    /// # Errors
    /// Why they may not, for people.
    pub(crate) fn validate(found: Option<Self>) -> Result<Self, &'static str> {
        match found {
            None => Err("user not found"),
            Some(user) if !user.active => Err("user is not active"),
            Some(user) => Ok(user),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::database::{self, DatabaseUrl};

    use super::*;

    async fn store() -> Store {
        let pool = database::open(&DatabaseUrl::memory(), &STEPS).await;
        Store::new(pool.unwrap())
    }

    #[tokio::test]
    async fn only_a_user_who_is_known_and_active_may_order() {
        let store = store().await;
        let validate = async |id| User::validate(store.find(id).await.unwrap());

        assert_eq!(validate("user-123").await.unwrap().name, "Иван Иванов");
        assert_eq!(
            validate("user-456").await.unwrap().email,
            "maria@example.com"
        );
        assert_eq!(validate("user-789").await, Err("user is not active"));
        assert_eq!(validate("user-0").await, Err("user not found"));
        assert_eq!(validate("").await, Err("user not found"));
    }

    #[tokio::test]
    async fn the_first_to_take_an_id_keeps_it() {
        let store = store().await;
        let user = |name: &str| User {
            id: "user-1".into(),
            name: name.into(),
            email: "a@example.com".into(),
            active: true,
        };

        assert_eq!(store.create(&user("A")).await.unwrap(), Some(user("A")));
        assert_eq!(store.create(&user("B")).await.unwrap(), Some(user("A")));
    }

    #[tokio::test]
    async fn a_user_who_was_deactivated_stays_known() {
        let store = store().await;

        let user = store.deactivate("user-123").await.unwrap().unwrap();
        assert!(!user.active);
        assert_eq!(store.find("user-123").await.unwrap(), Some(user));
        assert_eq!(store.deactivate("user-0").await.unwrap(), None);
    }
}
