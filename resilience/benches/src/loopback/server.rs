//! The server, in a process of its own.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, ChildStdin, Command, Stdio},
};

use proto::user::{
    UserRequest, UserResponse, ValidateUserRequest, ValidateUserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use tokio::task::spawn_blocking;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};

use crate::work::answer;

/// Keeps the server, which ends with its standard input.
pub(super) struct Process {
    child: Child,
    _stdin: Option<ChildStdin>,
    address: SocketAddr,
}

impl Process {
    pub(super) fn start() -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            _stdin: stdin,
            address,
        })
    }

    /// Its number, by which the kernel knows it.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A connection to it, as tonic makes it by default.
    pub(super) fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Endpoint::from_shared(url)
            .expect("an address makes a URL")
            .connect_lazy()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self._stdin = None;
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server: says where it is, answers, and ends with its standard input.
pub(crate) fn serve() -> io::Result<()> {
    struct Users;

    #[tonic::async_trait]
    impl UserService for Users {
        async fn get_user(
            &self,
            _: Request<UserRequest>,
        ) -> Result<Response<UserResponse>, Status> {
            Err(Status::unimplemented("nobody asks"))
        }

        async fn validate_user(
            &self,
            _: Request<ValidateUserRequest>,
        ) -> Result<Response<ValidateUserResponse>, Status> {
            Ok(Response::new(answer()))
        }
    }

    super::runtime()?.block_on(async {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        println!("{}", incoming.local_addr()?);
        let ended = spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new()));
        Server::builder()
            .add_service(UserServiceServer::new(Users))
            .serve_with_incoming_shutdown(incoming.with_nodelay(Some(true)), async {
                let _ = ended.await;
            })
            .await
            .map_err(io::Error::other)
    })
}
