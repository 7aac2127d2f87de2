//! `user.UserService`: faults first, then the answer, and one line in the log.

use proto::user::{
    UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_server::UserService,
};
use service_kit::{Deadline, code, log};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::info;

use crate::{
    chaos::{ChaosSwitch, Injector},
    users,
};

const GET_USER: &str = "user.UserService/GetUser";
const VALIDATE_USER: &str = "user.UserService/ValidateUser";

/// Knows who may order.
#[derive(Debug)]
pub(crate) struct Service {
    get_user: Injector,
    validate_user: Injector,
}

impl Service {
    pub(crate) fn new(chaos: &ChaosSwitch) -> Self {
        Self {
            get_user: chaos.injector(GET_USER),
            validate_user: chaos.injector(VALIDATE_USER),
        }
    }
}

#[tonic::async_trait]
impl UserService for Service {
    async fn get_user(
        &self,
        request: Request<UserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let caller = Deadline::of(request.extensions());
        let id = request.into_inner().user_id;
        logged(GET_USER, &id, async {
            let _slot = self.get_user.inject(caller).await?;
            let user = users::find(&id)
                .ok_or_else(|| Status::not_found(format!("user not found: {}", log::Id(&id))))?;
            let reply = UserResponse {
                user_id: user.id.to_owned(),
                name: user.name.to_owned(),
                email: user.email.to_owned(),
                active: user.active,
            };
            Ok((reply, "found"))
        })
        .await
    }

    async fn validate_user(
        &self,
        request: Request<ValidateUserRequest>,
    ) -> Result<Response<ValidateUserResponse>, Status> {
        let caller = Deadline::of(request.extensions());
        let id = request.into_inner().user_id;
        logged(VALIDATE_USER, &id, async {
            let _slot = self.validate_user.inject(caller).await?;
            Ok(match users::validate(&id) {
                Ok(user) => {
                    let user_name = user.name.to_owned();
                    let error_message = String::new();
                    (
                        ValidateUserResponse {
                            valid: true,
                            user_name,
                            error_message,
                        },
                        "valid",
                    )
                }
                Err(reason) => {
                    let error_message = reason.to_owned();
                    let user_name = String::new();
                    (
                        ValidateUserResponse {
                            valid: false,
                            user_name,
                            error_message,
                        },
                        reason,
                    )
                }
            })
        })
        .await
    }
}

/// Writes the one line of a call when `answer`, a reply with a word for the
/// outcome, is there, or when the caller has gone.
async fn logged<T>(
    method: &'static str,
    user_id: &str,
    answer: impl Future<Output = Result<(T, &'static str), Status>>,
) -> Result<Response<T>, Status> {
    let mut line = Line {
        method,
        user_id,
        started: Instant::now(),
        outcome: "cancelled",
    };
    let answer = answer.await;
    line.outcome = match &answer {
        Ok((_, outcome)) => outcome,
        Err(status) => code::name(status.code()),
    };
    answer.map(|(reply, _)| Response::new(reply))
}

/// Written when dropped, which happens to a cancelled call too.
struct Line<'a> {
    method: &'static str,
    user_id: &'a str,
    started: Instant,
    outcome: &'static str,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        info!(
            method = self.method,
            user_id = %log::Id(self.user_id),
            outcome = self.outcome,
            took_ms = log::took_ms(self.started),
            "call"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_has_its_faults() {
        assert_eq!(proto::user::METHODS, [GET_USER, VALIDATE_USER]);
    }
}
