//! A server that speaks HTTP/2 by hand, and misbehaves as it is told.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpSocket},
    task::{JoinHandle, JoinSet},
};

use crate::{
    connection::Connection,
    fault::{Act, At, Fault},
};

/// A server on a port of its own; gone, with its connections, when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    plan: Arc<Plan>,
    task: JoinHandle<()>,
}

impl Server {
    /// Does what `fault` says at every occasion.
    pub(crate) fn start(fault: Fault) -> Self {
        Self::start_for(fault, usize::MAX)
    }

    /// Does what `fault` says the first `times` that there is occasion to, and
    /// the right thing after that.
    pub(crate) fn start_for(fault: Fault, times: usize) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), Some(fault), times)
    }

    /// Does the right thing, on this port; 0 is any.
    pub(crate) fn healthy(port: u16) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, port).into(), None, 0)
    }

    fn start_at(address: SocketAddr, fault: Option<Fault>, times: usize) -> Self {
        let listener = listen(address).expect("a port of the loopback is free");
        let address = listener.local_addr().expect("it is bound");
        let plan = Arc::new(Plan {
            fault,
            left: AtomicUsize::new(times),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            resets: Mutex::default(),
            poured: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&plan)));
        Self {
            address,
            plan,
            task,
        }
    }

    /// Requests of which anything was seen.
    pub(crate) fn requests(&self) -> usize {
        self.plan.requests.load(Ordering::SeqCst)
    }

    /// The streams that clients have reset, and why.
    pub(crate) fn resets(&self) -> Vec<(u32, u32)> {
        self.plan
            .resets
            .lock()
            .expect("nobody panics with it")
            .clone()
    }

    /// Bytes that were written without being asked for.
    pub(crate) fn poured(&self) -> usize {
        self.plan.poured.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.plan.connections.load(Ordering::SeqCst)
    }

    /// Ends it, and returns when the port is free; connections end with it.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port that may have been in use a moment ago.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

pub(crate) struct Plan {
    fault: Option<Fault>,
    /// How often it is still to happen.
    left: AtomicUsize,
    connections: AtomicUsize,
    pub(crate) requests: AtomicUsize,
    pub(crate) resets: Mutex<Vec<(u32, u32)>>,
    pub(crate) poured: AtomicUsize,
}

impl Plan {
    /// What to do at this point in place of what is right.
    pub(crate) fn acts(&self, at: At, stream: u32) -> Option<Vec<Act>> {
        let fault = self.fault.as_ref().filter(|fault| fault.at == at)?;
        self.left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .ok()?;
        Some(fault.acts(stream))
    }
}

async fn accept(listener: TcpListener, plan: Arc<Plan>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        plan.connections.fetch_add(1, Ordering::SeqCst);
        let connection = Connection::new(socket, Arc::clone(&plan));
        // A connection that breaks is what most of them are here for.
        connections.spawn(async move { connection.serve().await.ok() });
    }
}
