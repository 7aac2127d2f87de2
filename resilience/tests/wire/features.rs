//! What tonic was built with.
//!
//! tonic's own mapping of HTTP/2 errors depends on its Cargo feature `server`,
//! which any crate in a program may turn on. So this whole program is built
//! twice: here, where the feature is on, and in the package beside it,
//! `wire-channel-only`, where it is off. What is expected is the same.

use proto::user::{UserRequest, user_service_client::UserServiceClient};
use tonic::{Code, transport::Endpoint};

use crate::{
    fault::Fault,
    frames::{reason, reset},
    server::Server,
};

/// Without this, the second build could silently become a copy of the first.
#[tokio::test]
async fn tonic_alone_says_of_a_refused_stream_what_its_features_make_it_say() {
    let fault = Fault::answer(|id| reset(id, reason::REFUSED_STREAM));
    let server = Server::start(fault);
    let channel = Endpoint::from_shared(format!("http://{}", server.address))
        .unwrap()
        .connect_lazy();
    let status = UserServiceClient::new(channel)
        .get_user(UserRequest::default())
        .await
        .unwrap_err();

    let told = match env!("CARGO_PKG_NAME") {
        "wire-channel-only" => Code::Unknown,
        _ => Code::Unavailable,
    };
    assert_eq!(status.code(), told, "{status:?}");
}
