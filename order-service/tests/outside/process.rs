//! Both services as processes of their own: the order service as it is shipped, the user
//! service from its library.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
};

use tokio::net::TcpSocket;

/// Set for a process that is to be the user service: the port to listen on.
const PORT: &str = "OUTSIDE_USER_SERVICE_PORT";
/// What it says once it serves.
const SERVING: &str = "the user service serves";

/// A process; killed at the end of the test, however that ends.
struct Process {
    child: Child,
    /// What it said until it served.
    begin: String,
}

impl Process {
    /// Starts it, and waits until it says `ready`.
    fn start(command: &mut Command, ready: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut begin = String::new();
        while !begin.contains(ready) {
            let read = output.read_line(&mut begin).unwrap();
            assert_ne!(read, 0, "it ended before {ready:?}: {begin}");
        }
        // A pipe that nobody reads fills up, and then its writer waits.
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        Self { child, begin }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success(), "SIG{name}");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program `order-service`.
pub(crate) struct OrderService(Process);

impl OrderService {
    /// Starts it with its defaults, on free ports, and orders in memory: what a run
    /// before has stored would be answered without asking anybody.
    pub(crate) fn start(users: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_order-service"));
        command.env_clear().envs([
            ("DATABASE_URL", "sqlite::memory:"),
            ("PORT", "0"),
            ("METRICS_PORT", "0"),
            ("ADMIN_PORT", "off"),
            ("USER_SERVICE_URL", &users.to_string()),
        ]);
        Self(Process::start(&mut command, " grpc="))
    }

    pub(crate) fn grpc(&self) -> SocketAddr {
        self.address(" grpc=")
    }

    pub(crate) fn metrics(&self) -> SocketAddr {
        self.address(" metrics=")
    }

    /// Whether it is still the process that was started.
    pub(crate) fn runs(&mut self) -> bool {
        self.0.child.try_wait().unwrap().is_none()
    }

    fn address(&self, field: &str) -> SocketAddr {
        let (_, rest) = self.0.begin.split_once(field).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// A user service on a port that stays its own, also while nobody listens there.
pub(crate) struct UserService {
    process: Process,
    address: SocketAddr,
    /// Bound and never listened on: nobody else gets the port, and connections are refused
    /// while the service is gone.
    _reserved: TcpSocket,
}

impl UserService {
    pub(crate) async fn start() -> Self {
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = reserved.local_addr().unwrap();
        Self {
            process: spawn_users(address.port()),
            address,
            _reserved: reserved,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = spawn_users(self.address.port());
    }
}

fn spawn_users(port: u16) -> Process {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["the_user_service", "--exact", "--ignored", "--nocapture"])
        .env_clear()
        .env(PORT, port.to_string());
    Process::start(&mut command, SERVING)
}

/// Is the user service until whoever started this process is gone.
pub(crate) fn serve_users() {
    let Ok(port) = env::var(PORT) else { return };
    let mut settings = user_service::Settings::default();
    settings.serve.port = port.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = runtime.block_on(user_service::start(settings)).unwrap();
    println!("{SERVING}");
    // The other end of this pipe closes when that process ends, however it does.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    drop(running);
}
