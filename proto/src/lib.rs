//! The contracts of the services, generated from the files in `proto/`.
//!
//! Beside the messages, clients and servers, each package has three constants:
//! `METHODS`; `IDEMPOTENT_METHODS`, which repeats what the .proto declares with
//! `option idempotency_level`; and `STREAMING_METHODS`. A client's
//! configuration starts from them, so that the promise stands in one place:
//! beside the method.

mod codec;

/// Knows who may order.
#[allow(missing_docs, unreachable_pub, clippy::all)] // generated
pub mod user {
    tonic::include_proto!("user");
    include!(concat!(env!("OUT_DIR"), "/user.methods.rs"));
}

/// Takes orders.
#[allow(missing_docs, unreachable_pub, clippy::all)] // generated
pub mod order {
    tonic::include_proto!("order");
    include!(concat!(env!("OUT_DIR"), "/order.methods.rs"));
}

/// Injects faults, for demonstrations and tests.
pub mod chaos {
    /// The first version of the contract.
    #[allow(missing_docs, unreachable_pub, clippy::all)] // generated
    pub mod v1 {
        tonic::include_proto!("chaos.v1");
        include!(concat!(env!("OUT_DIR"), "/chaos.v1.methods.rs"));
    }
}

/// Shows a running client to its operator.
pub mod admin {
    /// The first version of the contract.
    #[allow(missing_docs, unreachable_pub, clippy::all)] // generated
    pub mod v1 {
        tonic::include_proto!("admin.v1");
        include!(concat!(env!("OUT_DIR"), "/admin.v1.methods.rs"));
    }
}

/// The compiled descriptors of all packages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_comes_from_the_proto_files() {
        assert_eq!(
            user::IDEMPOTENT_METHODS,
            [
                "user.UserService/GetUser",
                "user.UserService/ValidateUser",
                "user.UserService/CreateUser",
                "user.UserService/DeactivateUser",
            ]
        );
        assert_eq!(
            order::METHODS,
            [
                "order.OrderService/CreateOrder",
                "order.OrderService/GetOrder",
                "order.OrderService/ListOrders",
            ]
        );
        assert_eq!(order::IDEMPOTENT_METHODS, order::METHODS);
        assert!(user::STREAMING_METHODS.is_empty());
        assert_eq!(
            chaos::v1::IDEMPOTENT_METHODS,
            ["chaos.v1.Chaos/Get", "chaos.v1.Chaos/Set"]
        );
    }
}
