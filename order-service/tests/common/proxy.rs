//! A way to a service that can be spoilt: connections are made for real, and what
//! passes on them is delayed, held, cut or let through in bits.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

/// How much is read at a time: about what fits into a packet on the loopback device.
const PIECE_BYTES: usize = 16 << 10;

/// What happens to what is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// Nothing.
    Clear,
    /// It arrives, after this long at least, and less than twice as long.
    Delay(Duration),
    /// It stays where it is, and no connection is closed. Afterwards it arrives.
    Silent,
    /// On connections that were made before it, the same; those made since are clear: who
    /// was there has gone without a word, and another is in its place.
    Vanished,
    /// Connections are reset: those that are, and those that are made.
    Cut,
    /// It arrives a few bytes at a time.
    Trickle { bytes: usize, every: Duration },
    /// Some of it, and all behind it, waits for a while.
    Stalls { share: f64, length: Duration },
}

/// Passes connections on to one address. Ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    _passing: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, changes) = watch::channel(Way::Clear);
        let mut passing = JoinSet::new();
        passing.spawn(async move {
            // Dropped with this task, and the connections with it.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (downstream, _) = accepted.unwrap();
                        connections.spawn(pass(downstream, upstream, changes.clone()));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self {
            address,
            way,
            _passing: passing,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

/// One connection, from the caller's first byte to the end of either side.
async fn pass(mut downstream: TcpStream, upstream: SocketAddr, way: watch::Receiver<Way>) {
    let mut cut = way.clone();
    let since = *way.borrow();
    let connected = async {
        let mut upstream = TcpStream::connect(upstream).await.ok()?;
        upstream.set_nodelay(true).ok()?;
        downstream.set_nodelay(true).ok()?;
        let (from_caller, to_caller) = downstream.split();
        let (from_service, to_service) = upstream.split();
        tokio::select! {
            () = pump(from_caller, to_service, way.clone(), since, 1) => {}
            () = pump(from_service, to_caller, way.clone(), since, 2) => {}
        }
        Some(())
    };
    tokio::select! {
        Some(()) = connected => return,
        _ = cut.wait_for(|way| *way == Way::Cut) => {}
        else => {}
    }
    // Closed with this set, a connection ends in RST.
    let _ = downstream.set_zero_linger();
}

/// One direction of a connection, which was made when the way was `since`. The dice are fixed: each run stalls at the same pieces.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    since: Way,
    seed: u64,
) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        let mut rest = &piece[..length];
        while !rest.is_empty() {
            let now = *way.borrow_and_update();
            let (bytes, wait) = match now {
                Way::Clear => (rest.len(), Duration::ZERO),
                Way::Vanished if since == Way::Vanished => (rest.len(), Duration::ZERO),
                Way::Delay(wait) => (rest.len(), wait),
                Way::Silent | Way::Vanished | Way::Cut => (0, Duration::MAX),
                Way::Trickle { bytes, every } => (bytes.min(rest.len()), every),
                Way::Stalls { share, length } if dice.f64() < share => (rest.len(), length),
                Way::Stalls { .. } => (rest.len(), Duration::ZERO),
            };
            let (first, others) = rest.split_at(bytes);
            tokio::select! {
                // The way is another one: what is held is looked at again.
                changed = way.changed(), if !wait.is_zero() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = sleep(wait) => {}
            }
            if to.write_all(first).await.is_err() {
                return;
            }
            rest = others;
        }
    }
}
