//! `user.UserService`: faults first, then the answer, and one line in the log.

use proto::user::{
    CreateUserRequest, DeactivateUserRequest, UserRequest, UserResponse, ValidateUserRequest,
    ValidateUserResponse, user_service_server::UserService,
};
use service_kit::{
    Deadline, code,
    log::{Id, took_ms},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::{error, info};

use crate::{
    chaos::{ChaosSwitch, Injector},
    limits,
    store::{Store, User},
};

const GET_USER: &str = "user.UserService/GetUser";
const VALIDATE_USER: &str = "user.UserService/ValidateUser";
const CREATE_USER: &str = "user.UserService/CreateUser";
const DEACTIVATE_USER: &str = "user.UserService/DeactivateUser";

/// Knows who may order.
#[derive(Debug)]
pub(crate) struct Service {
    store: Store,
    get_user: Injector,
    validate_user: Injector,
    create_user: Injector,
    deactivate_user: Injector,
}

impl Service {
    pub(crate) fn new(store: Store, chaos: &ChaosSwitch) -> Self {
        Self {
            store,
            get_user: chaos.injector(GET_USER),
            validate_user: chaos.injector(VALIDATE_USER),
            create_user: chaos.injector(CREATE_USER),
            deactivate_user: chaos.injector(DEACTIVATE_USER),
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
            limits::known_id(&id)?;
            let _slot = self.get_user.inject(caller).await?;
            let user = self.store.find(&id).await.map_err(unavailable)?;
            Ok((reply(user.ok_or_else(|| not_found(&id))?), "found"))
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
            limits::known_id(&id)?;
            let _slot = self.validate_user.inject(caller).await?;
            let found = self.store.find(&id).await.map_err(unavailable)?;
            Ok(match User::validate(found) {
                Ok(user) => (
                    ValidateUserResponse {
                        valid: true,
                        user_name: user.name,
                        error_message: String::new(),
                    },
                    "valid",
                ),
                Err(reason) => (
                    ValidateUserResponse {
                        valid: false,
                        user_name: String::new(),
                        error_message: reason.to_owned(),
                    },
                    reason,
                ),
            })
        })
        .await
    }

    async fn create_user(
        &self,
        request: Request<CreateUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let caller = Deadline::of(request.extensions());
        let request = request.into_inner();
        let id = request.user_id.clone();
        logged(CREATE_USER, &id, async {
            let new = limits::new_user(request)?;
            let _slot = self.create_user.inject(caller).await?;
            let user = self.store.create(&new).await.map_err(unavailable)?;
            let user = user.ok_or_else(|| not_found(&id))?;
            if (&user.name, &user.email) != (&new.name, &new.email) {
                let id = Id(&id);
                let message = format!("there is another user of the id {id}");
                return Err(Status::already_exists(message));
            }
            Ok((reply(user), "created"))
        })
        .await
    }

    async fn deactivate_user(
        &self,
        request: Request<DeactivateUserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let caller = Deadline::of(request.extensions());
        let id = request.into_inner().user_id;
        logged(DEACTIVATE_USER, &id, async {
            limits::known_id(&id)?;
            let _slot = self.deactivate_user.inject(caller).await?;
            let user = self.store.deactivate(&id).await.map_err(unavailable)?;
            Ok((reply(user.ok_or_else(|| not_found(&id))?), "deactivated"))
        })
        .await
    }
}

fn reply(user: User) -> UserResponse {
    UserResponse {
        user_id: user.id,
        name: user.name,
        email: user.email,
        active: user.active,
    }
}

fn not_found(id: &str) -> Status {
    Status::not_found(format!("user not found: {}", Id(id)))
}

/// What a caller is told of a database that fails: that it may come back. What
/// went wrong is for the log.
fn unavailable(error: sqlx::Error) -> Status {
    error!(%error, "the database failed");
    Status::unavailable("the users cannot be read just now")
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
            user_id = %Id(self.user_id),
            outcome = self.outcome,
            took_ms = took_ms(self.started),
            "call"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_contract_has_its_faults() {
        assert_eq!(
            proto::user::METHODS,
            [GET_USER, VALIDATE_USER, CREATE_USER, DEACTIVATE_USER]
        );
    }
}
