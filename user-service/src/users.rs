//! The users that there are. In memory, and never written to.

/// Someone who may want to order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) email: &'static str,
    pub(crate) active: bool,
}

const USERS: [User; 3] = [
    User {
        id: "user-123",
        name: "Иван Иванов",
        email: "ivan@example.com",
        active: true,
    },
    User {
        id: "user-456",
        name: "Мария Петрова",
        email: "maria@example.com",
        active: true,
    },
    User {
        id: "user-789",
        name: "Пётр Сидоров",
        email: "petr@example.com",
        active: false,
    },
];

/// The user of that id.
pub(crate) fn find(id: &str) -> Option<&'static User> {
    USERS.iter().find(|user| user.id == id)
}

/// The user of that id, if they may order.
///
/// # Errors
/// Why they may not, for people.
pub(crate) fn validate(id: &str) -> Result<&'static User, &'static str> {
    match find(id) {
        None => Err("user not found"),
        Some(user) if !user.active => Err("user is not active"),
        Some(user) => Ok(user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_user_who_is_known_and_active_may_order() {
        assert_eq!(validate("user-123").unwrap().name, "Иван Иванов");
        assert_eq!(validate("user-456").unwrap().email, "maria@example.com");
        assert_eq!(validate("user-789"), Err("user is not active"));
        assert_eq!(validate("user-0"), Err("user not found"));
        assert_eq!(validate(""), Err("user not found"));
    }
}
